"""Whatever is typed or lies in a file, a mistake ends in one line and exit code 1 or 2, soon."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from synthgrid.__main__ import main

NUL, LONG, NOBODY, HUGE = "x\0y", "a" * 5000, "~nobody-has-this-name/x", "1" + "0" * 20
WORKFLOW, SERVER = "sd15_class_prompts", ["--server", "http://127.0.0.1:1"]
GRID = ["--real", "real", "--synthetic", "made", "--models", "cnn", "--quick", "--out", "r"]
TUNE = ["tune", "--real", "real", "--model", "cnn", "--out", "t.json"]
SPLIT = ["split", "--images", "real/train", "--out", "o", "--test", "1", "--train"]

CONFIGS = (NUL, "deep.json", "digits.json")
CASES: list[list[str]] = [
    *(["plan", "--classes", each] for each in (LONG, NOBODY, *CONFIGS)),
    ["plan", "--classes", "real/train", "--per-class", HUGE],
    ["plan", "--classes", "real/train", "--batch-size", HUGE],
    ["plan", "--classes", "real/train", "--plan-seed", "-1"],
    ["plan", "--classes", "real/train", "--contexts", NUL],
    *(["plan", "--workflow", each] for each in (LONG, "text.json", *CONFIGS)),
    *(["validate", each, *SERVER] for each in (LONG, *CONFIGS)),
    ["validate", WORKFLOW, "--server", "http://127.0.0.1:99999"],
    ["validate", WORKFLOW, *SERVER, "--read-timeout", "inf"],
    ["validate", WORKFLOW, *SERVER, "--read-timeout", "nan"],
    ["validate", WORKFLOW, *SERVER, "--token-file", NUL],
    *(["run", WORKFLOW, *SERVER, "--out", each] for each in (NUL, LONG, NOBODY)),
    *(["run", WORKFLOW, "--servers", each, "--out", "o"] for each in CONFIGS),
    *(["verify", each] for each in (NUL, LONG, NOBODY)),
    *(["status", each] for each in (NUL, LONG, NOBODY)),
    *(["cancel", each] for each in (NUL, LONG, NOBODY)),
    *(["report", each] for each in (NUL, LONG, NOBODY)),
    ["extend", NUL, "--per-class", "3", *SERVER],
    *(["convert", each, *SERVER] for each in (NUL, "deep.json")),
    ["serve", "--base-directory", NUL],
    *(["serve", "--base-directory", "e", "--port", each] for each in ("99999999", "-1")),
    ["serve", "--base-directory", "e", "--host", "a" * 300],
    *(["grid", *GRID, "--real", each] for each in (NUL, LONG, NOBODY)),
    *(["grid", *GRID, "--synthetic", each] for each in (NUL, LONG)),
    ["grid", *GRID, "--out", NUL],
    *(["grid", "--config", each, "--out", "r"] for each in ("text.json", *CONFIGS)),
    *(["grid", *GRID, option, HUGE] for option in ("--image-size", "--threads", "--seeds")),
    *(["grid", *GRID, option, HUGE] for option in ("--epochs", "--updates", "--batch-size")),
    *(["grid", *GRID, "--ratios", each] for each in ("nan", "inf", "-1")),
    ["grid", *GRID, "--learning-rate", "inf"],
    *(["grid", *GRID, "--tuned", each] for each in CONFIGS),
    *([*SPLIT, each] for each in (HUGE, "0")),
    *([*SPLIT, "1", "--group-by", each] for each in (NUL, "deep.json")),
    *(["leaks", "--real", each, "--synthetic", "made"] for each in (NUL, LONG)),
    *([*TUNE, option, HUGE] for option in ("--trials", "--folds", "--threads")),
    *(["predict", each, "real"] for each in (NUL, LONG, "damaged-0", "damaged-1", "damaged-2")),
    ["evaluate", NUL, "real"],
    ["export", "damaged-0", "--out", NUL],
    *(["sample-data", "--out", each] for each in (NUL, LONG)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny real and synthetic images, and files that no JSON reader should trust."""
    folder = tmp_path_factory.mktemp("bad")
    for part in ("real/train", "real/test", "made"):
        for label in ("bat", "bear"):
            (folder / part / label).mkdir(parents=True)
            for number in range(4):
                image = Image.effect_noise((32, 32), 10 + number)
                image.save(folder / part / label / f"{part[-4:]}{number}.png")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "digits.json").write_text('{"seeds": ' + "9" * 5000 + "}")
    (folder / "text.json").write_text('"text"')
    for number, size in enumerate((0, -1, 10**9)):
        model = folder / f"damaged-{number}"
        model.mkdir()
        (model / "model.json").write_text(
            f'{{"model": "cnn", "classes": ["bat", "bear"], "image_size_px": {size}}}'
        )
        (model / "model.safetensors").write_bytes(b"\0" * 8)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(each[:12] for each in case))
def test_a_bad_input_is_one_line_and_no_traceback(
    case: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    try:
        code = main(case)
    except SystemExit as ended:  # wrong usage
        code = int(str(ended.code))
    text = capsys.readouterr().err
    assert code in (1, 2), text
    assert "Traceback" not in text
    assert "error: " in text
    assert len(text.splitlines()[-1]) < 6000
    assert "\0" not in text
