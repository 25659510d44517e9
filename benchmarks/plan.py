"""How fast rows of a large plan are made, with a bank of its own for every class and without.

    python benchmarks/plan.py [--quick]

1,000 classes x 1,000 images: a million rows, each with one of its class's 200 contexts, beside a
plan whose classes share 200. Memory is what the rows add to the plan at its peak: they are made one
at a time, so it must not grow with their number.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates  # noqa: E402
from comfy_nodes.prompt_bank import ClassBank  # noqa: E402


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


def rows_per_s(plan: GenerationPlan) -> float:
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


if __name__ == "__main__":
    main()
