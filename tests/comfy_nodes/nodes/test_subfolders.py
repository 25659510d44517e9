"""Sub-folder patterns: ImageFolder can read every labelled folder, and all stay in the saver's."""

import json

import pytest
import torch

from comfy_nodes import host
from comfy_nodes.errors import LabelsetError
from comfy_nodes.nodes.batcher import ClassPromptBatcher, PromptBatch
from comfy_nodes.nodes.images import LabelledImageSaver
from comfy_nodes.nodes.subfolders import SubfolderPattern, images_below
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates
from tests.comfy_nodes.helpers import scanned_records

TEXTS = PromptTemplates(("a {class}, {style}",), styles=("at dusk", "../oil"))
PLAN = GenerationPlan((ClassEntry("bat"), ClassEntry("a/b")), TEXTS, images_per_class=2)


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", tmp_path)
    return tmp_path


def save(pattern, *, images=None, index=0, size=4):
    batch = PromptBatch(PLAN, PLAN.batch(index, size), index, PLAN.batch_count(size))
    images = torch.rand(len(batch.specs), 8, 8, 3) if images is None else images
    return LabelledImageSaver().save(images, batch, "set", subfolders=pattern)["ui"]


@pytest.mark.parametrize(
    "pattern", ["{style}/{label}", "{plan_id}/by style/{style}/{label}", "{label}"]
)
def test_every_labelled_folder_has_its_own_images_records_and_card(output, pattern):
    ui = save(pattern)
    for spec, place, values in zip(PLAN, ui["images"], ui["synthgrid_records"], strict=True):
        path = output / place["subfolder"] / place["filename"]
        root = path.parent.parent
        assert path.is_file()
        assert root.relative_to(output / "set").as_posix() == (
            SubfolderPattern(pattern).parent(spec, PLAN.plan_id) or "."
        )
        assert scanned_records(root)[(PLAN.plan_id, spec.index)].file_name == values["file_name"]
        assert (root / "README.md").is_file()
    records = [
        json.loads(line)
        for path in output.rglob("metadata.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sorted(values["index"] for values in records) == [0, 1, 2, 3]


def test_a_style_cannot_leave_the_folder(output):
    save("{style}/{label}")
    assert {path.name for path in (output / "set").iterdir()} == {"at dusk", "_oil"}


def test_images_are_kept_and_deleted_ones_come_back(output):
    save("{style}/{label}")
    gone = next(output.rglob("*-000002.png"))
    gone.unlink()
    assert save("{style}/{label}")["text"] == ["1 saved, 3 already existed and were kept"]
    assert gone.is_file()


def test_a_refused_image_leaves_every_folder_as_it_was(output):
    images = torch.rand(4, 8, 8, 3)
    images[3] = float("nan")
    with pytest.raises(LabelsetError, match="image 3"):
        save("{style}/{label}", images=images)
    assert not list(output.rglob("*.png"))


def test_cards_are_written_for_folders_that_the_last_batch_did_not_touch(output):
    for index in range(4):
        save("{style}/{label}", index=index, size=1)
    assert len(list(output.glob("set/*/README.md"))) == 2


def test_the_batcher_resumes_whatever_the_pattern(output):
    save("{plan_id}/{style}/{label}")
    next(output.rglob("*-000001.png")).unlink()
    answer = ClassPromptBatcher().select(PLAN.classes, TEXTS, 2, 4, 0, 0, resume_folder="set")
    (batch,) = answer["result"][0]
    assert [spec.index for spec in batch.specs] == [1]
    assert images_below(output / "set", PLAN.plan_id) == {0, 2, 3}


def test_a_template_without_style_has_a_folder_too(output):
    plain = GenerationPlan((ClassEntry("bat"),))
    assert (
        SubfolderPattern("{style}/{context}/{label}").parent(plain.row(0), plain.plan_id)
        == "no style/no context"
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "must end in {label}"),
        ("{style}", "must end in {label}"),
        ("{label}/{style}", "must end in {label}"),
        ("{label}/{label}", "only there"),
        ("class {label}", "must end in {label}"),
        ("../{label}", "not a valid folder name"),
        ("/{label}", "not a valid folder name"),
        ("a//{label}", "not a valid folder name"),
        ("..\\{label}", "not a valid folder name"),
        ("C:/{label}", "not a valid folder name"),
        ("con/{label}", "not a valid folder name"),
        ("{date}/{label}", "unknown '{date}'"),
    ],
)
def test_a_pattern_that_loses_the_class_folder_or_leaves_the_folder_is_refused_before_sampling(
    output, pattern, message
):
    assert message in LabelledImageSaver.VALIDATE_INPUTS(folder="set", subfolders=pattern)
    with pytest.raises(LabelsetError):
        save(pattern)
    assert not list(output.iterdir())
