"""The report: from the runs alone, self-contained, without torch.

Covers: trainer.analysis.results, trainer.analysis.files, trainer.report.sections.classes,
trainer.report.sections.curves, trainer.report.sections.grid, trainer.report.sections.header,
trainer.report.html, trainer.report.page, trainer.report.sections.pictures, trainer.report.plots,
trainer.report.sections.provenance, trainer.report.style.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.analysis.results import results_of
from trainer.config import GridConfig
from trainer.errors import ReportError
from trainer.grid.grid import run_grid
from trainer.report import write_report
from trainer.report.sections.answers import answers
from trainer.report.sections.tables import text_table
from trainer.runs import read_grid


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    """A small finished grid whose data folders are gone."""
    root = tmp_path_factory.mktemp("report")
    make_shapes(root / "real" / "train", per_class=4, seed=1)
    make_shapes(root / "real" / "test", per_class=4, seed=2)
    make_shapes(root / "made", per_class=8, seed=3)
    (root / "real" / "train" / "cross").rename(root / "real" / "train" / "a <b> & 猫")
    (root / "real" / "test" / "cross").rename(root / "real" / "test" / "a <b> & 猫")
    (root / "made" / "cross").rename(root / "made" / "a <b> & 猫")
    run_grid(
        GridConfig(
            str(root / "real"),
            str(root / "grid"),
            str(root / "made"),
            models=("cnn",),
            ratios=(0.0, 1.0, 2.0),
            seeds=2,
            image_size_px=32,
            updates=4,
            quick=True,
            device="cpu",
            budgets=("updates",),
        )
    )
    shutil.rmtree(root / "real")
    shutil.rmtree(root / "made")
    for weights in (root / "grid").glob("*/model.safetensors"):
        weights.unlink()  # a report needs none, and each test copies what is here
    return root / "grid"


@pytest.fixture
def grid_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(finished, tmp_path / "grid")
    return tmp_path / "grid"


@pytest.fixture(scope="module")
def reported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its report, to read."""
    root = tmp_path_factory.mktemp("reported") / "grid"
    shutil.copytree(finished, root)
    write_report(root)
    return root


def page_of(root: Path) -> str:
    return (root / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Everything a browser would fetch, and whether tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_needs_no_torch(grid_folder: Path) -> None:
    """Torch is made impossible to import, as on a machine without it."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Absent())
from trainer.__main__ import main
sys.exit(main(["report", {str(grid_folder)!r}]))
"""
    (grid_folder / "report.html").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "Small CNN" in done.stdout
    assert (grid_folder / "report.html").is_file()


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(reported: Path) -> None:
    page, text = Page(), page_of(reported)
    page.feed(text)
    assert not page.open
    assert text.count('alt="Macro F1 over the synthetic ratio"') == 1
    assert text.count('alt="calibration of Small CNN"') == 1
    assert len(re.findall('alt="(?:real|synthetic) images of', text)) == 2 * 3
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "<script" not in text
    assert not re.search(r"url\(|@import|https?://", re.sub(r'"data:[^"]*"', "", text))


def test_class_names_are_escaped_and_kept(reported: Path) -> None:
    text = page_of(reported)
    assert "a &lt;b&gt; &amp; 猫" in text
    assert "<b> & 猫" not in text


def test_the_same_runs_give_the_same_page(grid_folder: Path, reported: Path) -> None:
    assert write_report(grid_folder).read_text(encoding="utf-8") == page_of(reported)


def test_results_csv_has_a_row_a_run_and_no_times(reported: Path) -> None:
    lines = (reported / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 6
    assert "seconds" not in lines[0]


def test_an_untrained_backbone_is_named_everywhere(grid_folder: Path) -> None:
    path = grid_folder / "grid.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    info["models"]["cnn"]["weights"] = "untrained"
    path.write_text(json.dumps(info), encoding="utf-8")
    results = results_of(read_grid(grid_folder))
    assert "untrained backbone" in text_table(results)
    assert "untrained backbone" in answers(results)[0]
    assert write_report(grid_folder).read_text(encoding="utf-8").count("untrained backbone") >= 4


def test_an_unfinished_grid_still_reports(grid_folder: Path) -> None:
    for run in read_grid(grid_folder).runs:
        if run.ratio == 2 or run.seed == 1:
            (grid_folder / run.run_id / "DONE").unlink()
    text = write_report(grid_folder).read_text(encoding="utf-8")
    assert "not trained yet" in text
    assert "4 of 6 runs have not been trained" in text
    assert "with a single seed" in text


def test_many_classes_get_a_picture_of_the_confusion(grid_folder: Path) -> None:
    from trainer.report.sections.classes import confusion_picture

    matrix = np.diag(np.full(30, 9))
    matrix[3, 7] = 4
    shown = confusion_picture(matrix, [f"class {number}" for number in range(30)])
    assert "class 3 mistaken for class 7: 4" in shown
    assert "data:image/png" in shown


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("grid.json", "cannot be read"),
        ("metrics.json", "cannot be read"),
        ("predictions.csv", "cannot be read"),
        ("samples.png", "cannot be read"),
        ("mistakes.json", "cannot be read"),
        ("mistakes.png", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(grid_folder: Path, damage: str, message: str) -> None:
    for path in grid_folder.rglob(damage):
        path.write_bytes(b"file,true\nx")
    with pytest.raises(ReportError, match=message) as caught:
        write_report(grid_folder)
    assert damage in str(caught.value)


def test_a_folder_without_a_grid_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="synthgrid grid"):
        write_report(tmp_path)


def test_json_holds_only_plain_values_and_what_the_page_says(reported: Path) -> None:
    found = json.loads(
        (reported / "results.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert len(found["runs"]) == 6
    assert found["cells"][1]["changes"]["f1"]["n"] == 2
    assert found["tables"]["markdown"].startswith("| Model |")
    page = page_of(reported)
    assert all(html.escape(each) in page for each in found["answers"] + found["warnings"])


def test_cells_are_what_scikit_learn_counted_in_training(reported: Path) -> None:
    """metrics.json, written when trained, and the report, counted from predictions, are the same
    numbers."""
    results = results_of(read_grid(reported))
    for key in results.keys:
        for metric in ("accuracy", "precision", "recall", "f1"):
            stored = np.mean([run.metrics[metric] for run in results.runs[key].values()])
            assert results.metrics[key][metric].value == pytest.approx(stored, abs=1e-6)


def test_runs_on_other_test_images_are_refused(grid_folder: Path) -> None:
    path = next(iter(sorted(grid_folder.glob("*/predictions.csv"))))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ReportError, match="tested on other images"):
        write_report(grid_folder)


def test_a_trained_grid_leaves_its_worst_mistakes_for_the_report(reported: Path) -> None:
    assert json.loads((reported / "mistakes.json").read_text(encoding="utf-8"))["cells"][0][
        "mistakes"
    ]
    text = page_of(reported)
    assert "The worst mistakes" in text
    assert "mistaken for <b>" in text


def test_all_arms_stand_beside_real_only_with_both_budgets(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    cells = {
        "real/both": [0.5] * 3,
        "augment/both": [0.6] * 3,
        "copies:1/updates": [0.5] * 3,
        "copies:1/epochs": [0.5] * 3,
    }
    cells |= {
        "add:1/updates": [0.9] * 3,
        "add:1/epochs": [0.9] * 3,
        "fewer:0.5/updates": [0.2] * 3,
        "more:1/epochs": [0.9] * 3,
    }
    text = write_report(make_grid(tmp_path / "grid", cells)).read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open
    order = [
        "the reference",
        "standard augmentation",
        "Same number of optimiser updates",
        "rotated or mirrored copies",
        "50% of real",
        "Same number of epochs",
        "additional real",
    ]
    places = [text.index(each, text.index("<h2>The grid")) for each in order]
    assert places == sorted(places)
    assert "Compared directly" in text
    assert "Class by class" in text
    assert "1 headline comparison, which" in text
    assert "8 exploratory comparisons. Verdicts" in text


def test_leaks_are_listed(tmp_path: Path, make_grid: Callable[..., Path]) -> None:
    side = {"part": "test", "source": "real", "file": "circle/<1>.png", "label": "circle"}
    leaks = {
        "checked": {"test": 300, "train": 90, "more": 0},
        "total": 3,
        "test_images": 1,
        "dropped": False,
    }
    leaks |= {
        "counts": {"bytes": 1, "near": 2},
        "pairs": [{"kind": "near", "distance": 0.1, "kept": side, "dropped": side}],
    }
    text = write_report(make_grid(tmp_path / "a", {"real/both": [0.5]}, leaks=leaks)).read_text(
        encoding="utf-8"
    )
    assert (
        "3 pairs of matching images in different parts of the data (1 identical file, 2 nearly "
        "identical picture), involving 1 test images" in text
    )
    assert "circle/&lt;1&gt;.png" in text
    assert "2 more pairs" in text
    none = leaks | {"total": 0, "pairs": []}
    text = write_report(make_grid(tmp_path / "b", {"real/both": [0.5]}, leaks=none)).read_text(
        encoding="utf-8"
    )
    assert "None found among 300 test, 90 train images." in text


def test_grids_of_before_arms_had_leaks_or_mistakes_still_report(
    tmp_path: Path, make_grid: Callable[..., Path]
) -> None:
    text = write_report(make_grid(tmp_path / "grid", {"real/both": [0.5] * 2})).read_text(
        encoding="utf-8"
    )
    assert "worst mistakes" not in text
    assert "<h2>Leaks" not in text


def test_the_contact_sheet_is_a_row_a_class(reported: Path) -> None:
    layout = read_grid(reported).info["samples"]
    with Image.open(reported / "samples.png") as image:
        assert image.size == (64 * (layout["real"] + layout["synthetic"]), 64 * 3)
