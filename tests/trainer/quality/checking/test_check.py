"""A check names what is wrong with each image, changes nothing, and says the same again.

Covers: trainer.quality.checking.copies, trainer.quality.checking.judging,
trainer.quality.checking.summary, trainer.commands.check, trainer.report.check.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from comfy_nodes.labelset.quality.verdicts import quarantine_folder, read_verdicts
from synthgrid.__main__ import main
from trainer.errors import ConfigError, DataError
from trainer.quality.checking.check import Check, run_check
from trainer.quality.checking.judging import CheckConfig
from trainer.quality.embedding.embedders import load_embedder
from trainer.quality.images import Origin, load_made, load_real
from trainer.report.check import write_check_report

PIXELS = load_embedder("pixels")
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def patch(label: str, random: np.random.RandomState, size: int = 48) -> Image.Image:
    """A noisy patch of the class's colour, with a texture of its own."""
    rough = random.randint(-90, 90, (6, 6, 3)) + np.array(COLOURS[label])
    small = Image.fromarray(rough.clip(0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def write(root: Path, per_class: int, seed: int) -> Path:
    random = np.random.RandomState(seed)
    for label in COLOURS:
        (root / label).mkdir(parents=True)
        for number in range(per_class):
            patch(label, random).save(root / label / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real colours, split; and synthetic ones of which six are not what they should be."""
    root = tmp_path_factory.mktemp("check")
    write(root / "real" / "train", 8, 1)
    write(root / "real" / "test", 4, 2)
    made = write(root / "made", 12, 3)
    Image.new("RGB", (48, 48)).save(made / "red" / "00.png")
    Image.new("RGB", (48, 48), (90, 91, 92)).save(made / "red" / "01.png")
    shutil.copy(made / "red" / "05.png", made / "red" / "06.png")
    test = Image.open(root / "real" / "test" / "green" / "01.png")
    test.save(made / "green" / "02.jpg", quality=80)
    (made / "green" / "02.png").unlink()
    (made / "blue" / "03.png").write_bytes((made / "blue" / "03.png").read_bytes()[:200])
    patch("red", np.random.RandomState(77)).save(made / "blue" / "04.png")
    (made / "violet").mkdir()
    patch("red", np.random.RandomState(8)).save(made / "violet" / "00.png")
    return root / "real", made


def check(folders: tuple[Path, Path], config: CheckConfig | None = None) -> Check:
    real = load_real(folders[0])
    return run_check(real, load_made(folders[1], real.classes), PIXELS, config)


@pytest.fixture(scope="module")
def found(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Check:
    """A check with the default settings, of copies of the folders, so that no other check of a test
    replaces its files."""
    root = tmp_path_factory.mktemp("found")
    for folder in folders:
        shutil.copytree(folder, root / folder.name)
    return check((root / "real", root / "made"))


def reasons(found: Check) -> dict[str, str]:
    return {each.file_name: each.reason for each in found.verdicts if each.rejected}


def test_each_bad_image_is_rejected_for_its_own_reason(found: Check) -> None:
    rejected = reasons(found)
    assert rejected["red/00.png"] == "blank: its pixels lie between 0 and 0, as after a NaN"
    assert rejected["red/01.png"].startswith("blank: its pixels lie between 90 and 92, deviation")
    assert rejected["red/06.png"].startswith("copy: the same picture as synthetic image red/05.png")
    assert rejected["green/02.jpg"].startswith(
        "copy: the same picture as real test image green/01.png"
    )
    assert rejected["blue/03.png"].startswith("damaged: blue/03.png is not a whole image")
    assert re.match(r"label: looks like 'red', 'blue' 0\.\d+ is below 0\.", rejected["blue/04.png"])
    assert len(rejected) <= 8


def test_only_the_reasons_asked_for_reject_and_scores_are_there_anyway(
    folders: tuple[Path, Path],
) -> None:
    none = check(folders, CheckConfig(reject=()))
    assert list(reasons(none)) == ["blue/03.png"]
    scores = {each.file_name: each.scores for each in none.verdicts}
    assert scores["red/06.png"]["copy"] > 0.9 > scores["red/07.png"]["copy"] == 0.0
    assert scores["red/00.png"]["highest"] == 0
    assert scores["blue/04.png"]["label"] < 0.5 < scores["blue/05.png"]["label"]
    assert {"outlier", "real", "cleanlab"} <= set(scores["blue/05.png"])
    assert scores["blue/03.png"] == {}
    strange = check(folders, CheckConfig(reject=("outlier", "real")))
    words = {reason.partition(":")[0] for reason in reasons(strange).values()}
    assert words <= {"damaged", "outlier", "real"}
    assert "real" in words or "outlier" in words


def test_an_image_may_look_like_the_one_that_it_was_made_from(folders: tuple[Path, Path]) -> None:
    real = load_real(folders[0])
    made = load_made(folders[1], real.classes)
    origins = [
        replace(origin, source_image="green/01.png") if each.file == "green/02.jpg" else origin
        for each, origin in zip(made.samples, made.origins, strict=True)
    ]
    found = run_check(real, replace(made, origins=tuple(origins)), PIXELS)
    assert "green/02.jpg" not in reasons(found)


def test_the_folder_stays_as_it_is_and_the_check_says_the_same_again(
    folders: tuple[Path, Path],
) -> None:
    def state() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folders[1].rglob("*") if path.is_file()}

    before, first = state(), check(folders)
    data = first.path.read_bytes()
    again = check(folders)
    assert state() == before
    assert again.path == first.path
    assert again.path.read_bytes() == data
    assert [each.reason for each in read_verdicts(first.path)] == [
        each.reason for each in first.verdicts
    ]
    assert check(folders, CheckConfig(seed=1)).path != first.path


def test_the_summary_records_what_made_it(found: Check) -> None:
    stored = json.loads(found.path.with_suffix(".json").read_text())
    assert stored["config"] == {"outlier": "msp", "reject": ["label", "copy", "blank"], "seed": 0}
    assert stored["embedder"]["fingerprint"] == PIXELS.fingerprint
    assert set(stored["inputs"]) == {"real", "test", "synthetic"}
    assert stored["not_judged"] == {"violet": 1}
    assert (stored["images"], stored["rejected"]) == (36, found.rejected)
    assert sum(stored["by_reason"].values()) == found.rejected
    assert [each["images"] for each in stored["by_class"]] == [12, 12, 12]
    assert 0 <= stored["thresholds"]["label"]["real"] <= 0.1
    assert stored["worst"][0]["nearest"]


def test_prompts_are_counted_apart(folders: tuple[Path, Path]) -> None:
    real = load_real(folders[0])
    made = load_made(folders[1], real.classes)
    origins = tuple(Origin(prompt=f"p{row % 2}") for row in range(len(made.samples)))
    found = run_check(real, replace(made, origins=origins), PIXELS)
    assert [each["name"] for each in found.summary["by_prompt"]] == ["p0", "p1"]


def test_the_report_shows_every_image_and_asks_nobody(found: Check) -> None:
    page = write_check_report(found.path)
    text = page.read_text()
    assert f"{found.rejected} of 36 images rejected" in text
    assert "1 images of violet are not judged" in text
    for label in COLOURS:
        assert f'href="report/{label}.html"' in text
        shown = (page.parent / "report" / f"{label}.html").read_text()
        tiles = re.findall(r'<figure class="tile( out)?">(.*?)<figcaption>', shown)
        assert len(tiles) == 12
        # Rejected images may be moved to the quarantine; the page does not need their files.
        assert not any("../" in tile for rejected, tile in tiles if rejected)
        links = [re.findall(r'src="([^"]+)"', tile)[0] for rejected, tile in tiles if not rejected]
        assert all((page.parent / "report" / link).resolve().is_file() for link in links)
    for file in (page, *page.parent.glob("report/*.html")):
        assert not re.search(r"https?://|<script|@import", file.read_text())


def test_a_page_embeds_so_many_pictures_and_says_how_many_it_leaves_out(
    found: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.report.check._EMBEDDED", 2)
    counts = Counter(each.label for each in found.verdicts if each.rejected)
    label, rejected = counts.most_common(1)[0]
    page = write_check_report(found.path).parent / "report" / f"{label}.html"
    assert page.read_text().count("data:image") == 2 < rejected
    assert page.read_text().count("<figure") == 12 - (rejected - 2)
    assert f"{rejected - 2} more are not shown." in page.read_text()


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    for part in ("real", "made"):
        write(tmp_path / part, 4, 1)
        (tmp_path / part / "red").rename(tmp_path / part / "<b>&r e%d")
    real = load_real(tmp_path / "real")
    found = run_check(real, load_made(tmp_path / "made", real.classes), PIXELS)
    page = write_check_report(found.path)
    text = page.read_text()
    assert "<b>&r" not in text
    assert "&lt;b&gt;&amp;r e%d" in text
    (target,) = re.findall(r'href="(report/[^"]*r%20e[^"]*)"', text)
    assert "%25d" in target


def test_too_few_real_images_or_none_that_decode_are_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    write(tmp_path / "few", 1, 1)
    real = load_real(tmp_path / "few")
    with pytest.raises(DataError, match="has 1 real image"):
        run_check(real, load_made(folders[1], real.classes), PIXELS)
    broken = write(tmp_path / "broken", 2, 1)
    for path in broken.rglob("*.png"):
        path.write_bytes(b"nothing" + path.name.encode() + path.parent.name.encode())
    real = load_real(folders[0])
    with pytest.raises(DataError, match=r"no image of .* can be decoded"):
        run_check(real, load_made(broken, real.classes), PIXELS)


def test_an_unknown_reason_is_named() -> None:
    with pytest.raises(ConfigError, match="reason 'labels' is unknown; choose from label, copy"):
        CheckConfig(reject=("labels",))


def test_the_command_prints_counts_thresholds_and_where_to_look(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real, made = folders
    arguments = ["check", str(made), "--real", str(real), "--embedder", "pixels"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "36 images, " in printed
    assert "not judged: 1 images of 'violet'" in printed
    assert "the same rule rejects" in printed
    assert str(made.with_name("made.quality") / "report.html") in printed
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 36


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--real", "nowhere"], "nowhere is not a folder"),
        (["--embedder", "lite9"], "embedder 'lite9' is unknown"),
        (["--reject", "label,x"], "reason 'x' is unknown"),
        (["--outlier", "x"], "outlier score 'x' is unknown"),
        (["--weights", "none.pth", "--embedder", "lite0"], "none.pth does not exist"),
    ],
)
def test_a_wrong_option_ends_in_one_line(
    folders: tuple[Path, Path],
    change: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["check", str(folders[1]), "--real", str(folders[0]), "--embedder", "pixels"]
    assert main([*arguments, *change]) == 1
    assert says in capsys.readouterr().err


def test_quarantine_moves_exactly_the_rejected_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, made = np.random.RandomState(5), tmp_path / "made"
    for index in range(24):
        label = list(COLOURS)[index % 3]
        image = patch(label, random) if index != 11 else Image.new("RGB", (48, 48))
        name = image_file_name(label, "plan", index)
        record = ImageRecord(name, label, "a prompt", "", index, index, "plan")
        LabelledFolder(made).add(record, encode_image(image, record))
    real = write(tmp_path / "real", 8, 1)
    arguments = ["check", str(made), "--real", str(real), "--embedder", "pixels", "--reject"]
    assert main([*arguments, "blank", "--quarantine"]) == 0
    assert "1 images moved to" in capsys.readouterr().err
    assert len(list(made.glob("*/*.png"))) == 23
    assert len(list(quarantine_folder(made).glob("blue/*.png"))) == 1
    assert main([*arguments, "blank"]) == 0
    assert "23 images, 0 rejected" in capsys.readouterr().out
