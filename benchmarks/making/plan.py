"""How fast rows of a large plan are made, with a bank of its own for every class and without.

    python benchmarks/making/plan.py [--quick]

1,000 classes x 1,000 images: a million rows, each with one of its class's 200 contexts, beside a
plan whose classes share 200. Memory is what the rows add to the plan at its peak: they are made one
at a time, so it must not grow with their number.

Then a file of a million captions, as text and as JSON lines: how long it takes to read, what it
holds in memory beside its own size, rows per second, and what one job of 64 rows is sent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from comfy_nodes.banks.prompt_bank import ClassBank  # noqa: E402
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates  # noqa: E402
from comfy_nodes.plan.caption_plan import CaptionPlan  # noqa: E402
from comfy_nodes.plan.captions import read_captions  # noqa: E402


def make_plan(classes: int, per_class: int, contexts: int, *, own: bool) -> GenerationPlan:
    """A plan whose classes have contexts of their own, or share as many."""
    names = [f"class {number}" for number in range(classes)]
    places = [f"in place {number}" for number in range(contexts)]
    bank = [(name, ClassBank(contexts=tuple(f"{p} of {name}" for p in places))) for name in names]
    texts = PromptTemplates(
        ("a photo of a {class}, {context}",),
        contexts=tuple(places),
        per_class=tuple(sorted(bank)) if own else (),
    )
    return GenerationPlan(tuple(map(ClassEntry, names)), texts, per_class)


def rows_per_s(plan: GenerationPlan | CaptionPlan) -> float:
    """How many rows are made in a second, all of them once."""
    start = time.perf_counter()
    for _ in plan:
        pass
    return len(plan) / (time.perf_counter() - start)


def memory(plan: GenerationPlan, rows: int) -> float:
    """MB that the first rows add at their peak."""
    tracemalloc.start()
    for index in range(rows):
        plan.row(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def write_captions(folder: Path, count: int) -> tuple[Path, Path]:
    """(text, JSON lines) of different captions of 60 characters; the lines have labels."""
    captions = [
        f"photo {number:09} of a market street in the rain, 街角, seen from above"
        for number in range(count)
    ]
    text, lines = folder / "captions.txt", folder / "captions.jsonl"
    text.write_text("\n".join(captions), encoding="utf-8")
    pairs = ({"caption": each, "label": f"l{n % 100}"} for n, each in enumerate(captions))
    with lines.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(each, ensure_ascii=False) + "\n" for each in pairs)
    return text, lines


def captions(count: int) -> None:
    """Prints how files of captions are read and planned."""
    with tempfile.TemporaryDirectory() as folder:
        for path in write_captions(Path(folder), count):
            start = time.perf_counter()
            plan = CaptionPlan(read_captions(path))
            seconds = time.perf_counter() - start
            speed = rows_per_s(plan)
            tracemalloc.start()
            read_captions(path)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            sent = len("".join(plan.captions.part(count // 2, 64).lines()))
            print(
                f"{path.name:16} {count:9,} captions, {path.stat().st_size / 1e6:5.1f} MB, read in "
                f"{seconds:4.1f} s, peak {peak / 1e6:5.1f} MB; {speed:8,.0f} rows/s; a job of 64: "
                f"{sent:,} characters"
            )


def main() -> None:
    """Prints rows per second, their ratio, and memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small plan: that it runs")
    quick = parser.parse_args().quick
    classes, per_class, contexts = (20, 20, 10) if quick else (1000, 1000, 200)
    speeds = {}
    for name, own in (("shared contexts", False), ("own contexts", True)):
        start = time.perf_counter()
        plan = make_plan(classes, per_class, contexts, own=own)
        identity = plan.plan_id
        made = time.perf_counter() - start
        speeds[name] = rows_per_s(plan)
        print(
            f"{name:16} plan {identity} in {made:4.1f} s, {len(plan):9,} rows in "
            f"{len(plan) / speeds[name]:5.1f} s, {speeds[name]:8,.0f} rows/s"
        )
    print(f"own / shared: {speeds['own contexts'] / speeds['shared contexts']:.2f}")
    for rows in (len(plan) // 10, len(plan) // 5):
        print(f"memory that the first {rows:,} rows add: {memory(plan, rows):.1f} MB")
    captions(1000 if quick else 1_000_000)


if __name__ == "__main__":
    main()
