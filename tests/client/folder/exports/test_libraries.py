"""The libraries that the formats are for read them: datasets, webdataset, pycocotools, torchvision,
FiftyOne, and sd-parsers, which reads what galleries of A1111's images show.

Each test is skipped where its library is not installed.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from client.__main__ import main
from comfy_nodes.labelset import LabelledFolder
from comfy_nodes.labelset.images.imagefile import ImageFormat
from tests.client.folder.exports.helpers import export, fails, lines_of, picture

LABELS = ["ant", "bat/../x", "蝙蝠"]
DOCUMENTATION = Path(__file__).resolve().parents[4] / "docs" / "exporting.md"
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Hugging Face's library, offline and with a cache of this test's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found.disable_progress_bars()
    return found


@pytest.mark.parametrize("to", ["hf", "parquet"])
def test_datasets_loads_labels_as_classes_and_joins_them_with_real_images(
    folder: Path, to: str, datasets: ModuleType
) -> None:
    real = folder.with_name("real")
    for label in LABELS:
        (real / label.replace("/", "_")).mkdir(parents=True)
        image = Image.new("RGB", (20, 20), "blue")
        image.save(real / label.replace("/", "_") / "photo.png")
    real_set = datasets.load_dataset("imagefolder", data_dir=str(real), split="train")
    assert isinstance(real_set.features["label"], datasets.ClassLabel)
    real_set = real_set.cast_column("label", datasets.ClassLabel(names=LABELS))

    out = export(folder, to)
    made = datasets.load_dataset(str(out), split="train")
    assert made.features["label"] == datasets.ClassLabel(names=LABELS)
    assert made.features["image"] == datasets.Image()
    assert not any("null" in repr(each) for each in made.features.values())
    records = {each["sha256"]: each for each in lines_of(folder)}
    for row in made:
        record = records.pop(row["sha256"])
        assert LABELS[row["label"]] == record["label"]
        assert (row["prompt"], row["seed"]) == (record["prompt"], record["seed"])
        assert json.loads(row["settings"]) == record["settings"]
        assert row["source_image"] is None
        expected = Image.open(folder / record["file_name"])
        assert row["image"].tobytes() == expected.tobytes()
    assert not records

    both = datasets.concatenate_datasets([real_set, made])
    assert len(both) == 3 + 9
    assert both.features["label"] == datasets.ClassLabel(names=LABELS)
    assert [LABELS[each] for each in both["label"]][:3] == LABELS
    columns = ["image", "label"]
    alike = datasets.concatenate_datasets([real_set, made.select_columns(columns)])
    assert alike.features == real_set.features


def test_class_names_that_are_dates_are_refused_as_files_and_loaded_from_parquet(
    tmp_path: Path, datasets: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    labels = ("2024-01-01", "2025-01-01T00:00:00")
    folder = tmp_path / "set"
    LabelledFolder(folder).add_all(
        [picture(index, ImageFormat("PNG"), labels[index % 2]) for index in range(4)]
    )
    said = fails(capsys, folder, "--to", "hf", "--out", tmp_path / "out")
    assert "label '2024-01-01' is a date" in said
    assert "--to parquet" in said
    made = datasets.load_dataset(str(export(folder, "parquet")), split="train")
    assert [labels[each] for each in made["label"]] == [*labels, *labels]


def test_the_documentations_own_commands_and_code_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    datasets: ModuleType,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip("webdataset")
    monkeypatch.chdir(tmp_path)
    labels = ("bear", "cat")
    LabelledFolder(Path("data/synthetic")).add_all(
        [picture(index, ImageFormat("PNG"), labels[index % 2]) for index in range(4)]
    )
    for label in labels:
        path = Path("data/animals/train", label, "photo.png")
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20), "blue").save(path)
    text = DOCUMENTATION.read_text(encoding="utf-8")
    commands = re.findall(r"^synthgrid (export-data .*)$", text, re.MULTILINE)
    assert len(commands) == 5
    for each in commands:
        assert main(each.split()) == 0
    capsys.readouterr()
    loading, _, reading, *_ = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    found: dict = {}
    exec(loading, found)
    assert found["both"].features["label"] == datasets.ClassLabel(names=list(labels))
    assert len(found["both"]) == 2 + 4
    exec(reading.replace("{000000..000004}", "000000"), {})
    assert capsys.readouterr().out.splitlines() == [f"(16, 8) {each}" for each in 2 * labels]


def test_torchvision_reads_the_images_of_hf(folder: Path) -> None:
    out = export(folder, "hf")
    found = ImageFolder(str(out / "train"))
    assert found.classes == ["ant", "bat_.._x", "蝙蝠"]
    assert len(found) == 9


@pytest.mark.slow
def test_fiftyone_reads_a_labelled_folder_and_the_class_folders_of_hf(folder: Path) -> None:
    """By the importer of `Dataset.from_dir(..., ImageClassificationDirectoryTree)`, which needs no
    database."""
    reason = "FiftyOne is not installed: pip install fiftyone"
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason=reason)
    names = {Path(each["file_name"]).name: each["label"] for each in lines_of(folder)}
    expected = {name: label.replace("/", "_") for name, label in names.items()}
    for tree in (folder, export(folder, "hf") / "train"):
        with importers.ImageClassificationDirectoryTreeImporter(str(tree)) as importer:
            found = {Path(path).name: label.label for path, _, label in importer}
            info = importer.get_dataset_info()
        assert found == expected
        assert info["classes"] == ["ant", "bat_.._x", "蝙蝠"]


PROMPTS = {
    "PNG": "a photo of a 蝙蝠, (in snow:1.2), [blurred]",
    "WebP": "first line,\nsecond line",
    "JPEG": "Steps: a bear climbs",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_reader_of_a1111s_parameters_finds_what_the_record_says(
    name: str, tmp_path: Path
) -> None:
    reason = "sd-parsers is not installed: pip install sd-parsers"
    readers = pytest.importorskip("sd_parsers", reason=reason)
    settings = {"steps": 20, "sampler": "dpmpp_2m", "scheduler": "karras", "cfg": 7.5}
    settings |= {"width": 16, "height": 8, "checkpoint": "sd15/v1-5.safetensors"}
    changes = {"prompt": PROMPTS[name], "negative_prompt": "text, frame", "settings": settings}
    LabelledFolder(tmp_path / "set").add_all([picture(1, ImageFormat(name), "bat", **changes)])
    out = export(tmp_path / "set", "hf")
    (record,) = lines_of(tmp_path / "set")
    found = readers.ParserManager().parse(out / "train" / record["file_name"])
    (sampler,) = found.samplers
    assert [each.value for each in sampler.prompts] == [record["prompt"]]
    assert [each.value for each in sampler.negative_prompts] == ["text, frame"]
    assert (sampler.name, sampler.model.name) == ("dpmpp_2m", "v1-5")
    assert sampler.parameters == {
        "scheduler": "karras",
        "cfg_scale": "7.5",
        "seed": str(record["seed"]),
        "steps": "20",
    }


def test_webdataset_reads_the_shards(make_folder: Callable[..., Path]) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = make_folder(formats=("PNG",))
    out = export(folder, "webdataset", "--shard-images", 4)
    urls = [str(each) for each in sorted(out.glob("*.tar"))]
    assert len(urls) == 3
    found = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    rows = list(found.decode("pil").to_tuple("png", "json", "__key__"))
    records = lines_of(folder)
    assert [record for _, record, _ in rows] == records
    for image, record, key in rows:
        assert key == f"{record['plan_id']}-{record['index']:06d}"
        assert image.tobytes() == Image.open(folder / record["file_name"]).tobytes()


def test_datasets_reads_the_shards(make_folder: Callable[..., Path], datasets: ModuleType) -> None:
    folder = make_folder(formats=("PNG",))
    out = export(folder, "webdataset")
    rows = datasets.load_dataset(
        "webdataset", data_files=str(out / "*.tar"), split="train", streaming=True
    )
    records = lines_of(folder)
    for row, record in zip(rows, records, strict=True):
        assert row["json"]["prompt"] == record["prompt"]
        expected = Image.open(io.BytesIO((folder / record["file_name"]).read_bytes()))
        assert row["png"].tobytes() == expected.tobytes()


def test_pycocotools_reads_the_boxes(folder: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    out = export(folder, "coco-cls")
    found = coco.COCO(str(out / "labels.json"))
    for record in lines_of(folder):
        (category,) = found.getCatIds(catNms=[record["label"]])
        names = {each["file_name"] for each in found.loadImgs(found.getImgIds(catIds=[category]))}
        assert record["file_name"] in names
        assert len(names) == 3
    boxes = found.loadAnns(found.getAnnIds())
    assert all(each["bbox"] == [0, 0, 16, 8] for each in boxes)


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    out = folder.with_name("out")
    assert main(["export-data", str(folder), "--to", "parquet", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs pyarrow; install it with" in line
    assert "[data]" in line
    assert not out.exists()
