"""What the client costs: idle time of one server, scaling over many, memory for large plans.

    python benchmarks/making/client.py [idle] [scaling] [memory] [--service 0.5] [--jobs 20]
        [--rounds 3] [--servers 1,2,4,8,16]

The servers are real processes of the embedded engine with a stub as the model: it sleeps for the
service time. Queue, HTTP, websocket, saver and record checks are the real ones.

idle     Three ways take turns on one server process: (a) the loop of ComfyUI's own websocket
         example: post, wait for the socket, read the history, download, next;
         (b) comfy_api_simplified, if it is installed; (c) run_plan. Busy is what the server's
         history says it executed, by its own clock; the wall time runs from the first start to the
         last end on the server. Overhead is the rest of a job's time, seen from the outside.
scaling  Images/s on 1, 2, 4, ... servers; 100% is that many times the speed of one server.
memory   Peak memory of a child process that plans that many images and does the bookkeeping (job
         table, prompt ids, throughput, the folder's scan) without the pictures; with --full it
         makes them, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import requests  # noqa: E402
import websocket  # noqa: E402

from client.folder.run_folder import RunFolder  # noqa: E402
from client.run import events  # noqa: E402
from client.run.dispatch.jobs import Jobs  # noqa: E402
from client.run.plan_jobs import PlanWork  # noqa: E402
from client.run.runner import run_plan  # noqa: E402
from client.run.throughput import Throughput  # noqa: E402
from client.server.fleet import ServerSpec  # noqa: E402
from client.workflow.graph import Workflow, parse_workflow  # noqa: E402

STUB = ROOT / "tests" / "client" / "stub_engine.py"
LOOP, SIMPLE, OURS = "post and wait", "comfy_api_simplified", "run_plan"


def workflow(jobs: int, *, service_s: float, seed: int, batch_size: int = 1) -> Workflow:
    """Plan nodes, the stub for the model, and the saver, for so many jobs."""
    graph = {
        "1": {"class_type": "SynthGridClassList", "inputs": {"classes": "bat", "path": ""}},
        "2": {
            "class_type": "SynthGridPromptTemplates",
            "inputs": {
                "templates": "a {class}",
                "negative_prompt": "",
                "contexts": "",
                "styles": "",
            },
        },
        "3": {
            "class_type": "SynthGridClassPromptBatcher",
            "inputs": {
                "classes": ["1", 0],
                "templates": ["2", 0],
                "images_per_class": jobs * batch_size,
                "batch_size": batch_size,
                "plan_seed": seed,
                "batch_index": 0,
                "only": "",
            },
        },
        "4": {"class_type": "StubImages", "inputs": {"batch": ["3", 0], "seconds": service_s}},
        "5": {
            "class_type": "SynthGridLabelledImageSaver",
            "inputs": {
                "images": ["4", 0],
                "batch": ["3", 0],
                "folder": "synthgrid",
                "overwrite": False,
            },
        },
    }
    return parse_workflow(graph, source="stub")


def start_server(stack: ExitStack, base: Path) -> str:
    """A stub engine process that ends with `stack`; its address."""
    process = subprocess.Popen(
        [sys.executable, str(STUB), "0", str(base)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stderr is not None
    for line in process.stderr:
        if "listening on " in line:
            # What the server says later goes nowhere; its pipe must not fill.
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            return line.split("listening on ")[1].strip()
    raise RuntimeError("the stub server did not start")


def post_and_wait(work: Workflow, url: str, out: Path) -> None:
    """ComfyUI's script_examples/websockets_api_example.py for each batch; writes the files."""
    client = uuid.uuid4().hex
    out.mkdir()
    socket = websocket.create_connection(f"{url.replace('http', 'ws', 1)}/ws?clientId={client}")
    session = requests.Session()
    for batch in range(work.plan().batch_count(work.batch_size)):
        graph = work.for_batch(batch, folder=f"loop/{client}")
        prompt_id = session.post(
            f"{url}/prompt", json={"prompt": graph, "client_id": client}
        ).json()["prompt_id"]
        while True:
            event = json.loads(socket.recv())
            if event["type"] == "executing" and event["data"] == {
                "node": None,
                "prompt_id": prompt_id,
            }:
                break
        entry = session.get(f"{url}/history/{prompt_id}").json()[prompt_id]
        for image in entry["outputs"]["5"]["images"]:
            (out / image["filename"]).write_bytes(session.get(f"{url}/view", params=image).content)
    socket.close()


def simplified(work: Workflow, url: str, out: Path) -> None:
    """comfy_api_simplified's queue_and_wait_images, for every batch in turn."""
    from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

    api = ComfyApiWrapper(url)
    out.mkdir()
    for batch in range(work.plan().batch_count(work.batch_size)):
        graph = work.for_batch(batch, folder=f"simplified/{out.name}")
        for node_id, node in graph.items():
            node["_meta"] = {"title": f"node {node_id}"}
        path = out / "graph.json"
        path.write_text(json.dumps(graph))
        for name, data in api.queue_and_wait_images(
            ComfyWorkflowWrapper(str(path)), "node 5"
        ).items():
            (out / name).write_bytes(data)


def ours(work: Workflow, url: str, out: Path) -> None:
    """run_plan, as a user calls it."""
    run_plan(work, url, out)


def spans(url: str) -> list[tuple[float, float]]:
    """(start, end) in seconds of every prompt in the server's history, which is then cleared."""
    found = []
    for entry in requests.get(f"{url}/history").json().values():
        times = {kind: data["timestamp"] / 1000 for kind, data in entry["status"]["messages"]}
        found.append((times["execution_start"], times["execution_success"]))
    requests.post(f"{url}/history", json={"clear": True})
    return sorted(found)


def measure_idle(args: argparse.Namespace, stack: ExitStack, base: Path) -> None:
    """Prints busy share and overhead of each way; they take turns on one server process."""
    ways: dict[str, Callable[[Workflow, str, Path], None]] = {LOOP: post_and_wait, OURS: ours}
    if find_spec("comfy_api_simplified"):
        ways[SIMPLE] = simplified
    else:
        print(f"{SIMPLE} is not installed: left out")
    url = start_server(stack, base / "idle")
    busy: dict[str, list[float]] = {name: [] for name in ways}
    overhead: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name, way in ways.items():
            work = workflow(args.jobs, service_s=args.service, seed=time.time_ns() % 10**9)
            begun = time.perf_counter()
            way(work, url, base / f"{name}-{number}")
            wall = time.perf_counter() - begun
            done = spans(url)
            assert len(done) == args.jobs, f"{name}: {len(done)} jobs, not {args.jobs}"
            working = sum(end - start for start, end in done)
            busy[name].append(working / (done[-1][1] - done[0][0]))
            overhead[name].append((wall - working) / args.jobs)
    print(f"one server, {args.jobs} jobs of {args.service:g} s, median of {args.rounds} rounds")
    for name in ways:
        print(
            f"  {name:22} server busy {statistics.median(busy[name]):6.1%}, "
            f"{1000 * statistics.median(overhead[name]):6.1f} ms a job beyond the server's own time"
        )


def measure_scaling(args: argparse.Namespace, stack: ExitStack, base: Path) -> None:
    """Prints images/s and efficiency for each number of servers."""
    urls = [start_server(stack, base / f"server-{number}") for number in range(max(args.servers))]
    alone = None
    print(
        f"scaling, {args.jobs} jobs of {args.service:g} s per server, best of {args.rounds} rounds"
    )
    for count in args.servers:
        speeds = []
        for number in range(args.rounds):
            work = workflow(args.jobs * count, service_s=args.service, seed=time.time_ns() % 10**9)
            specs = [ServerSpec(url) for url in urls[:count]]
            summary = run_plan(work, specs, base / f"scaling-{count}-{number}")
            speeds.append(summary.made / summary.seconds)
        alone = alone or max(speeds) / count
        print(
            f"  {count:2} servers: {max(speeds):6.2f} images/s, "
            f"efficiency {max(speeds) / (alone * count):6.1%}, "
            f"of the service time alone {max(speeds) * args.service / count:6.1%}"
        )


def measure_memory(args: argparse.Namespace, stack: ExitStack, base: Path) -> None:
    """Prints the peak memory of a child process for each size of plan."""
    url = start_server(stack, base / "memory") if args.full else ""
    print(
        "peak memory of the client"
        + (", all images made" if args.full else ", books only (no image is made)")
    )
    for count in args.images:
        command = [
            sys.executable,
            __file__,
            "--child",
            str(count),
            "--url",
            url,
            "--folder",
            str(base),
        ]
        mib = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"  {count:7} images: {mib:6.1f} MiB")


def child(args: argparse.Namespace) -> None:
    """Runs one plan in this process and prints the peak of its memory in MiB."""
    count, batch = args.child, 50
    work = workflow(count // batch, service_s=0.0, seed=count, batch_size=batch)
    out = Path(args.folder) / f"memory-{count}"
    if args.url:
        run_plan(work, args.url, out)
    else:
        keep_books(work, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / 1024 if sys.platform != "darwin" else peak / 2**20)


def keep_books(work: Workflow, out: Path) -> None:
    """All that run_plan does for each job, except talking to a server and writing images."""
    folder = RunFolder(out, work)
    plan = folder.plan
    folder.open() if folder.exists else out.mkdir(parents=True)
    folder.describe({})
    made = PlanWork(folder)
    figures = Throughput(plan.counts(), {})
    jobs = Jobs(made.missing_jobs())
    jobs.join("a")
    while (job := jobs.take("a")) is not None:
        prompt_id = made.prompt_id(job)
        posted = {"indices": job.indices, "attempt": 0, "found": False}
        figures.take(
            events.JobPosted(server="a", prompt_id=prompt_id, batch_index=job.batch_index, **posted)
        )
        for index in job.indices:
            row = plan.row(index)
            jobs.deliver(job, index)
            figures.take(events.ImageSaved(server="a", index=index, label=row.label, file_name=""))
        jobs.finish("a", job)
        figures.take(
            events.JobFinished(
                server="a",
                prompt_id=prompt_id,
                batch_index=job.batch_index,
                images=len(job.indices),
            )
        )
    assert jobs.over
    assert figures.made == len(plan)


def numbers(text: str) -> list[int]:
    """ "1,2,4" -> [1, 2, 4]."""
    return [int(each) for each in text.split(",")]


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", default=["idle", "scaling", "memory"], help="idle, scaling, memory"
    )
    parser.add_argument(
        "--service", type=float, default=0.5, help="seconds a job (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=20, help="jobs on each server (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", type=numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--images", type=numbers, default=[1000, 10_000, 100_000], help="sizes of plan for memory"
    )
    parser.add_argument("--full", action="store_true", help="memory: make the images too")
    for hidden in ("--url", "--folder"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.child:
        child(args)
        return
    measures: dict[str, Any] = {
        "idle": measure_idle,
        "scaling": measure_scaling,
        "memory": measure_memory,
    }
    for name in args.what:
        with ExitStack() as stack:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="synthgrid-bench-")))
            measures[name](args, stack, base)


if __name__ == "__main__":
    main()
