"""One sampler call for a batch of mixed classes compared with one call per image.

    python benchmarks/making/batching.py          # the embedded engine and its own small checkpoint
    python benchmarks/making/batching.py --server http://127.0.0.1:8188 --size 512 \
        --checkpoint v1-5-pruned-emaonly.safetensors

Prints images per second and their ratio, on the same server. Both ways run the saved workflow with
the same rows: prompts, seeds, steps and size are equal, and so are the images. They take turns,
each round with a different plan seed, so that nothing is cached. Times are the server's own, from
the start of the first prompt to the end of the last; all prompts of a round are queued before the
first one runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from client.embedded import DEFAULT_CHECKPOINT, DEFAULT_SIZE  # noqa: E402
from client.server.launch import EmbeddedServer  # noqa: E402
from client.workflow.changes.options import Options, patch  # noqa: E402
from client.workflow.graph import Workflow, load_workflow  # noqa: E402
from comfy_nodes.plan import ClassEntry  # noqa: E402

CLASSES = tuple(ClassEntry(name) for name in ("badger", "bat", "bear", "bee"))
WORKFLOW = ROOT / "workflows" / "api" / "sd15_class_prompts.json"
_POLL_S = 0.02


def seconds_on(url: str, graphs: Sequence[dict[str, Any]]) -> float:
    """Queues the graphs; returns the seconds, by the server's clock, until the last one is done."""
    ids = [_ask(f"{url}/prompt", {"prompt": graph})["prompt_id"] for graph in graphs]
    times: list[float] = []
    for prompt_id in ids:
        while not (entry := _ask(f"{url}/history/{prompt_id}").get(prompt_id)):
            time.sleep(_POLL_S)
        status = entry["status"]
        if status["status_str"] != "success":
            raise SystemExit(f"{url} could not run the workflow: {status['messages'][-1]}")
        times += [message["timestamp"] / 1000 for _, message in status["messages"]]
    return max(times) - min(times)


def _ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode("utf-8")
    with urlopen(
        Request(url, data=data, headers={"Content-Type": "application/json"}), timeout=600
    ) as answer:
        return json.load(answer)


def graphs(
    workflow: Workflow, *, images: int, batch_size: int, plan_seed: int
) -> list[dict[str, Any]]:
    """The prompts that make the plan's first `images` rows, `batch_size` at a time.

    Every call uses a new output folder.
    """
    options = Options(
        plan_seed=plan_seed, batch_size=batch_size, images_per_class=-(-images // len(CLASSES))
    )
    patched = patch(workflow, options)
    folder = f"benchmark/{uuid.uuid4().hex[:8]}"
    return [patched.for_batch(index, folder=folder) for index in range(-(-images // batch_size))]


def compare(url: str, workflow: Workflow, *, images: int, rounds: int) -> list[float]:
    """Prints both rates; returns batch / single for each round.

    An additional first round, which loads the model, is not counted.
    """
    rates: dict[int, list[float]] = {images: [], 1: []}
    for number in range(rounds + 1):
        for batch_size, each in rates.items():
            made = graphs(workflow, images=images, batch_size=batch_size, plan_seed=number)
            rate = images / seconds_on(url, made)
            each += [rate] if number else []
    for batch_size, each in rates.items():
        print(f"  {images // batch_size} x {batch_size}: {statistics.median(each):8.2f} images/s")
    return [batch / single for batch, single in zip(rates[images], rates[1], strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the comparison and prints the median ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server",
        default="embedded",
        metavar="URL",
        help="a ComfyUI (default: the embedded engine)",
    )
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        help="as the server lists it (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=DEFAULT_SIZE,
        help="width and height in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=20, help="sampling steps (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=8, help="images in the batch (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each way (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    size = {"width": options.size, "height": options.size}
    workflow = patch(
        load_workflow(WORKFLOW),
        Options(classes=CLASSES, checkpoint=options.checkpoint, steps=options.steps, **size),
    )
    with ExitStack() as stack:
        url = options.server.rstrip("/")
        if url == "embedded":
            url = stack.enter_context(EmbeddedServer()).open().url
        what = f"{options.images} images {options.size}x{options.size}, {options.steps} steps"
        print(f"{what}, {options.server}")
        ratios = compare(url, workflow, images=options.images, rounds=options.rounds)
    print(
        f"  one call of {options.images} compared with {options.images} calls: "
        f"{statistics.median(ratios):.2f} times as fast"
    )


if __name__ == "__main__":
    main()
