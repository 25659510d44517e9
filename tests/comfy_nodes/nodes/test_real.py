"""Real Image Latent: each row starts from a real image of its class, and the record names it."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from comfy_nodes import host
from comfy_nodes.errors import LabelsetError, PlanError
from comfy_nodes.graph import queued
from comfy_nodes.nodes.batcher import PromptBatch
from comfy_nodes.nodes.images import LabelledImageSaver
from comfy_nodes.nodes.prompts import ClassList
from comfy_nodes.nodes.real import RealImageLatent
from comfy_nodes.plan import ClassEntry, GenerationPlan
from comfy_nodes.plan.caption_plan import CaptionPlan
from comfy_nodes.plan.captions import Captions
from tests.comfy_nodes.helpers import scanned_records

COLOURS = {"bat": (200, 0, 0), "cat": (0, 200, 0)}


@pytest.fixture(autouse=True)
def nothing_queued():
    queued.remember({})


class Vae:
    """A VAE with ComfyUI's method: each of four channels has the means of 8 x 8 image pixels."""

    def encode(self, pixels):
        rows = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([rows, rows[:, :1]], 1)


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", tmp_path / "output")
    monkeypatch.setattr(host, "_input_directory", tmp_path / "input")
    for label, colour in COLOURS.items():
        (tmp_path / "input" / "set" / "real" / label).mkdir(parents=True)
        for number in range(5):
            red, green, _ = colour
            path = tmp_path / "input" / "set" / "real" / label / f"{number}.png"
            Image.new("RGB", (30 + number, 40), (red, green, number * 10)).save(path)
    return tmp_path


def make_batch(batch_size=8, index=0, per_class=4):
    plan = GenerationPlan(tuple(map(ClassEntry, COLOURS)), images_per_class=per_class)
    return PromptBatch(plan, plan.batch(index, batch_size), index, plan.batch_count(batch_size))


def load(batch=None, **changes):
    inputs = dict(batch=batch or make_batch(), vae=Vae(), folder="set/real", width=32, height=16)
    return RealImageLatent().load(**(inputs | changes))


def test_every_row_is_an_image_of_its_own_class(base):
    latent, batch, images = load()
    assert latent["samples"].shape == (8, 4, 2, 4)
    assert (images.shape, images.dtype) == ((8, 16, 32, 3), torch.float32)
    for spec, source, image in zip(batch.specs, batch.sources, images, strict=True):
        assert source.file.startswith(f"{spec.label}/")
        red, green, blue = (image[8, 16] * 255).round().int().tolist()
        assert (red, green) == COLOURS[spec.label][:2]
        assert blue == 10 * int(source.file[-5])


def test_a_caption_starts_from_real_images_of_its_label_drawn_in_turn(base):
    captions = Captions([("a red bat", "bat"), ("a green cat", "cat"), ("a cat", "cat")])
    plan = CaptionPlan(captions, images_per_caption=2)
    _, batch, _ = load(PromptBatch(plan, plan.batch(0, 6), 0, 1))
    files = [source.file for source in batch.sources]
    assert [file.split("/")[0] for file in files] == ["bat", "cat", "cat"] * 2
    assert files[0] != files[3]


def test_a_row_does_not_depend_on_the_batch_size_or_on_more_images_per_class(base):
    whole = load()
    halves = [load(make_batch(3, index)) for index in range(3)]
    assert [source for half in halves for source in half[1].sources] == list(whole[1].sources)
    assert torch.equal(torch.cat([half[0]["samples"] for half in halves]), whole[0]["samples"])
    assert load(make_batch(per_class=9))[1].sources == whole[1].sources


def test_the_record_names_the_real_image(base):
    _, batch, images = load()
    ui = LabelledImageSaver().save(images, batch, "out")["ui"]
    records = scanned_records(base / "output" / "out")
    for spec, source, values in zip(
        batch.specs, batch.sources, ui["synthgrid_records"], strict=True
    ):
        assert (values["source_image"], values["source_sha256"]) == (source.file, source.sha256)
        assert records[(batch.plan.plan_id, spec.index)].source_image == source.file


def test_a_batch_from_noise_has_no_sources(base):
    ui = LabelledImageSaver().save(torch.rand(8, 8, 8, 3), make_batch(), "out")["ui"]
    assert {values["source_image"] for values in ui["synthgrid_records"]} == {None}


def test_the_class_list_reads_the_same_folder_by_the_same_name(base):
    (classes,) = ClassList().read("", "set/real")
    assert [entry.name for entry in classes] == ["bat", "cat"]


@pytest.mark.parametrize(
    "folder", ["", " ", ".", "..", "../x", "set/../../x", "/tmp", "set\\..\\x", "C:\\x", "a\0b"]
)
def test_only_folders_inside_the_input_folder_are_read(base, folder):
    assert "must be a folder inside" in RealImageLatent.VALIDATE_INPUTS(folder=folder)
    with pytest.raises(LabelsetError, match="must be a folder inside"):
        load(folder=folder)


def test_a_missing_folder_is_refused_before_sampling(base):
    assert "folder 'gone' does not exist" in RealImageLatent.VALIDATE_INPUTS(folder="gone")
    assert (
        RealImageLatent.VALIDATE_INPUTS(folder="set/real")
        is RealImageLatent.VALIDATE_INPUTS()
        is True
    )


def refused(classes, folder="set/real"):
    """What the node answers in a queued graph that takes these classes from the folder."""
    graph = {
        "1": {"class_type": "SynthGridClassList", "inputs": {"classes": classes, "path": ""}},
        "2": {"class_type": "SynthGridClassPromptBatcher", "inputs": {"classes": ["1", 0]}},
        "3": {
            "class_type": "SynthGridRealImageLatent",
            "inputs": {"folder": folder, "batch": ["2", 0]},
        },
    }
    queued.remember({"prompt": graph})
    return RealImageLatent.VALIDATE_INPUTS(folder=folder)


def test_a_class_without_real_images_is_refused_before_it_is_queued(base):
    assert refused("bat\ncat") is True
    assert "has no folder for class 'dog'; it has bat, cat" in refused("bat\ndog")
    (base / "input" / "set" / "real" / "dog").mkdir()
    assert "dog has no images" in refused("bat\ndog")
    queued.remember({"prompt": {}})
    assert RealImageLatent.VALIDATE_INPUTS(folder="set/real") is True


def test_it_looks_again_when_a_file_changes(base):
    before = RealImageLatent.IS_CHANGED(folder="set/real", width=8)
    assert RealImageLatent.IS_CHANGED(folder="set/real", width=8) == before
    Image.new("RGB", (9, 9)).save(base / "input" / "set" / "real" / "bat" / "new.png")
    assert RealImageLatent.IS_CHANGED(folder="set/real", width=8) != before
    assert math.isnan(RealImageLatent.IS_CHANGED(folder=None))


def test_one_bad_file_is_named(base):
    for path in (base / "input" / "set" / "real" / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(LabelsetError, match=r"cat.\d\.png is not a whole image"):
        load()


def test_a_checkpoint_without_vae_is_named(base):
    with pytest.raises(PlanError, match="no VAE"):
        load(vae=None)


def test_a_batch_that_no_memory_holds_is_refused_in_words(base):
    with pytest.raises(PlanError, match="at most 1 are possible: lower batch_size"):
        load(width=16384, height=16384)


def test_outside_any_host_the_node_says_so(monkeypatch):
    monkeypatch.setattr(host, "_input_directory", None)
    assert "no input directory" in RealImageLatent.VALIDATE_INPUTS(folder="real")


def test_pixels_are_those_of_the_file(base):
    """8-bit values come back from IMAGE exactly."""
    _, _, images = load()
    assert np.array_equal((images * 255).round().numpy() / np.float32(255), images.numpy())
