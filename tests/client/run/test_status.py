"""The status of a folder that nobody wrote as SynthGrid would.

Covers: client.run.status; what a run leaves there is in tests/client/commands.
"""

from __future__ import annotations

import json
import tracemalloc

from client.run.status import status

LARGE = 2**22 - 1


def test_records_with_huge_indices_take_no_more_memory_than_others(tmp_path):
    (tmp_path / "bat").mkdir()
    lines = []
    for number in range(40):
        plan_id = f"{number:012x}"
        name = f"bat/{plan_id}-{LARGE}.png"
        (tmp_path / name).write_bytes(b"x")
        record = {"file_name": name, "label": "bat", "prompt": "", "negative_prompt": ""}
        lines.append(json.dumps(record | {"seed": 1, "index": LARGE, "plan_id": plan_id}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    tracemalloc.start()
    found = status(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.done == 40
    assert peak < 3_000_000
