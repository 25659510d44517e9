"""A check's CSV comes back as it was written, and a damaged one is refused with its line."""

import math
import os
from pathlib import Path

import pytest

from comfy_nodes.labelset import LabelsetError
from comfy_nodes.labelset.quality.verdicts import (
    Verdict,
    checked_folder,
    checks_of,
    quality_folder,
    quarantine_folder,
    read_verdicts,
    write_verdicts,
)

KEPT = Verdict("a1", "crane, bird/p-1.png", "crane, bird", scores={"label": 0.25})
LEFT_OUT = Verdict("b2", 'x"y/p-2.png', "ünï", "label 0.01 < 0.1", {"label": 0.01, "near": 3.0})


def test_verdicts_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "syn.quality" / "abc.csv"
    write_verdicts(path, [KEPT, LEFT_OUT])
    first, second = read_verdicts(path)
    assert (first.file_name, first.label, first.rejected) == (KEPT.file_name, KEPT.label, False)
    assert first.scores["label"] == 0.25
    assert math.isnan(first.scores["near"])
    assert second == LEFT_OUT
    assert second.rejected


def test_a_check_without_images_has_a_header(tmp_path: Path) -> None:
    write_verdicts(tmp_path / "c.csv", [])
    assert read_verdicts(tmp_path / "c.csv") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first columns must be"),
        ("file_name,label\na,b\n", "first columns must be"),
        ("sha256,file_name,label,verdict,reason\na,b,c,keep\n", "line 2 has 4 values instead of 5"),
        ("sha256,file_name,label,verdict,reason\na,b,c,keep,,7\n", "line 2 has 6 values"),
        ("sha256,file_name,label,verdict,reason\na,b,c,maybe,\n", "line 2: the verdict"),
        ("sha256,file_name,label,verdict,reason\na,b,c,reject,\n", "line 2: the verdict"),
        ("sha256,file_name,label,verdict,reason\na,b,c,keep,bad\n", "line 2: the verdict"),
        ("sha256,file_name,label,verdict,reason,near\na,b,c,keep,,x\n", "line 2: could not"),
        ('sha256,file_name,label,verdict,reason\na,"b"c,c,keep,\n', "line"),
    ],
)
def test_another_file_is_refused_in_words(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "check.csv"
    path.write_text(text)
    with pytest.raises(LabelsetError, match=says):
        read_verdicts(path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("none.csv", "b.csv"):
        with pytest.raises(LabelsetError, match=rf"cannot read .*{name}"):
            read_verdicts(tmp_path / name)


def test_the_newest_check_comes_first(tmp_path: Path) -> None:
    assert checks_of(tmp_path / "syn") == []
    paths = [quality_folder(tmp_path / "syn") / f"{name}.csv" for name in "abc"]
    for path, second in zip(paths, (2, 3, 1), strict=True):
        write_verdicts(path, [])
        os.utime(path, (second, second))
    assert checks_of(tmp_path / "syn") == [paths[1], paths[0], paths[2]]


def test_checks_and_rejected_images_lie_beside_the_folder(tmp_path: Path) -> None:
    assert quality_folder(tmp_path / "syn.v2") == tmp_path / "syn.v2.quality"
    assert checked_folder(quality_folder(tmp_path / "syn.v2")) == tmp_path / "syn.v2"
    assert quarantine_folder(tmp_path / "syn.v2") == tmp_path / "syn.v2.quarantine"
