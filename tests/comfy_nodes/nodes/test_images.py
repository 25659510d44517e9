"""The saver writes a correct labelled folder inside the output folder, and refuses bad images."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from comfy_nodes import host
from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import read_record, sha256
from comfy_nodes.nodes.batcher import PromptBatch
from comfy_nodes.nodes.images import LabelledImageSaver
from comfy_nodes.plan import ClassEntry, GenerationPlan
from tests.comfy_nodes.helpers import scanned_records

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "2": {
        "class_type": "BasicScheduler",
        "inputs": {"steps": 20, "scheduler": "normal", "model": ["1", 0]},
    },
}


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", None)
    host.use_output_directory(tmp_path / "output")
    return tmp_path / "output"


def make_batch(names=("bat", "cat"), *, per_class=2, batch_size=8, index=0):
    plan = GenerationPlan(tuple(map(ClassEntry, names)), images_per_class=per_class)
    return PromptBatch(plan, plan.batch(index, batch_size), index, plan.batch_count(batch_size))


def make_images(count=4, size=8):
    return torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(0))


def save(batch=None, images=None, **more):
    batch = batch or make_batch()
    images = make_images(len(batch.specs)) if images is None else images
    return LabelledImageSaver().save(
        images, batch, **({"folder": "animals", "prompt": GRAPH} | more)
    )["ui"]


def test_images_land_in_class_folders_with_true_records(output):
    batch, images = make_batch(), make_images()
    ui = save(batch, images)
    records = scanned_records(output / "animals")
    assert len(records) == 4
    for row, (spec, values) in enumerate(zip(batch.specs, ui["synthgrid_records"], strict=True)):
        path = output / "animals" / values["file_name"]
        data = path.read_bytes()
        assert path.parent.name == values["label"] == spec.label
        assert (values["prompt"], values["seed"], values["index"]) == (
            spec.prompt,
            spec.seed,
            spec.index,
        )
        assert values["settings"] == {
            "checkpoint": "sd15.safetensors",
            "scheduler": "normal",
            "steps": 20,
            "width": 8,
            "height": 8,
        }
        assert values["sha256"] == sha256(data)
        assert read_record(data) == records[(values["plan_id"], values["index"])]
        assert np.array_equal(
            np.asarray(Image.open(path)), (images[row].numpy() * 255).astype(np.uint8)
        )


def test_the_answer_tells_where_view_finds_each_image(output):
    for place in save(folder="animals/first try")["images"]:
        assert (output / place["subfolder"] / place["filename"]).is_file()
        assert "\\" not in place["subfolder"]
        assert place["type"] == "output"


def test_the_graph_is_inside_the_png_for_dragging_it_back(output):
    ui = save(extra_pnginfo={"workflow": {"nodes": []}})
    with Image.open(output / "animals" / ui["synthgrid_records"][0]["file_name"]) as image:
        assert json.loads(image.text["prompt"]) == GRAPH
        assert json.loads(image.text["workflow"]) == {"nodes": []}


def test_what_comfyui_adds_to_a_running_graph_is_not_saved(output):
    """is_changed: [NaN], which no browser reads as JSON."""
    running = {node_id: node | {"is_changed": [float("nan")]} for node_id, node in GRAPH.items()}
    ui = save(prompt=running)
    with Image.open(output / "animals" / ui["synthgrid_records"][0]["file_name"]) as image:
        assert json.loads(image.text["prompt"]) == GRAPH


def test_an_existing_image_is_kept_and_a_deleted_one_comes_back(output):
    first = save()
    paths = [output / "animals" / values["file_name"] for values in first["synthgrid_records"]]
    before = [path.read_bytes() for path in paths]
    paths[2].unlink()
    again = save(images=1 - make_images())
    assert again["text"] == ["1 saved, 3 already existed and were kept"]
    assert again["synthgrid_records"][0] == first["synthgrid_records"][0]
    assert [path.read_bytes() == data for path, data in zip(paths, before, strict=True)] == [
        True,
        True,
        False,
        True,
    ]
    assert len(scanned_records(output / "animals")) == 4


def test_an_image_of_another_attempt_is_never_taken_for_the_one_that_comes(output):
    batch = make_batch()
    again = replace(batch, specs=(batch.plan.row(1, attempt=2),))
    first = save()["synthgrid_records"]
    with pytest.raises(LabelsetError, match=r"attempt 0 at this image, and attempt 2 comes"):
        save(again)
    key = (batch.plan.plan_id, 1)
    assert scanned_records(output / "animals")[key].to_dict() == first[1]
    (made,) = save(again, overwrite=True)["synthgrid_records"]
    assert (made["attempt"], made["seed"]) == (2, again.specs[0].seed)
    assert made["file_name"] == first[1]["file_name"]
    assert scanned_records(output / "animals")[key].to_dict() == made
    kept = save(again, images=1 - make_images(1))
    assert kept["synthgrid_records"] == [made]
    # a whole batch as planned keeps it too
    assert save()["synthgrid_records"] == [first[0], made, *first[2:]]


def test_overwrite_replaces_images_and_records(output):
    first = save()["synthgrid_records"]
    second = save(images=1 - make_images(), overwrite=True)["synthgrid_records"]
    lines = (output / "animals" / "metadata.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["sha256"] for line in lines) == sorted(
        values["sha256"] for values in second
    )
    assert {values["sha256"] for values in first}.isdisjoint(values["sha256"] for values in second)


def test_the_last_batch_writes_the_card(output):
    save(make_batch(batch_size=3, index=0))
    assert not (output / "animals" / "README.md").exists()
    save(make_batch(batch_size=3, index=1))
    assert "4 images of 2 classes" in (output / "animals" / "README.md").read_text()


def test_odd_class_names_are_kept_in_the_record_and_made_safe_on_disk(output):
    names = ("../x", "CON", "a/b", "蝙蝠")
    ui = save(make_batch(names, per_class=1))
    assert [values["label"] for values in ui["synthgrid_records"]] == list(names)
    assert sorted(path.name for path in (output / "animals").iterdir() if path.is_dir()) == [
        "_CON",
        "_x",
        "a_b",
        "蝙蝠",
    ]


def test_a_count_that_does_not_match_is_refused(output):
    with pytest.raises(LabelsetError, match="3 images but 4 records"):
        save(images=make_images(3))
    assert not output.exists()


def test_nan_images_are_refused_with_their_number_and_nothing_is_written(output):
    images = make_images()
    images[2, 0, 0, 0] = float("nan")
    with pytest.raises(LabelsetError, match=r"image 2 \('bat'\) has NaN"):
        save(images=images)
    assert not list(output.rglob("*.png"))


@pytest.mark.parametrize("value", [0.0, 0.003, -1.0])
def test_an_all_black_image_is_refused_with_its_number_and_nothing_is_written(output, value):
    images = make_images()
    images[1] = value
    with pytest.raises(
        LabelsetError, match=r"image 1 \('cat'\) is all black.*--fp32-vae.*keep_bad_images"
    ):
        save(images=images)
    assert not list(output.rglob("*.png"))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_overflow_is_refused_as_nan_is(output, value):
    images = make_images()
    images[0, 0, 0, 0] = value
    with pytest.raises(LabelsetError, match="image 0"):
        save(images=images)


def test_a_very_dark_image_is_not_all_black(output):
    images = torch.zeros(4, 8, 8, 3)
    images[:, 0, 0, 0] = 1.01 / 255
    assert len(save(images=images)["images"]) == 4


def test_bad_images_are_kept_on_request_with_nan_as_black(output):
    images = make_images()
    images[0] = 0.0
    images[1, 0, 0] = float("nan")
    ui = save(images=images, keep_bad_images=True)
    pixels = np.asarray(Image.open(output / "animals" / ui["synthgrid_records"][1]["file_name"]))
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(pixels[1], (images[1, 1].numpy() * 255).astype(np.uint8))


@pytest.mark.parametrize(("name", "suffix"), [("PNG", ".png"), ("WebP", ".webp"), ("JPEG", ".jpg")])
def test_every_format_is_saved_with_records_that_come_back(output, name, suffix):
    batch = make_batch()
    ui = save(batch, format=name)
    records = scanned_records(output / "animals")
    for spec, place in zip(batch.specs, ui["images"], strict=True):
        path = output / place["subfolder"] / place["filename"]
        assert path.suffix == suffix
        found = read_record(path.read_bytes())
        assert (found.prompt, found.seed) == (spec.prompt, spec.seed)
        assert found == records[found.key]


def test_an_existing_image_in_another_format_is_kept_or_replaced(output):
    first = save()["synthgrid_records"]
    again = save(format="WebP")
    assert again["synthgrid_records"] == first
    assert again["text"] == ["0 saved, 4 already existed and were kept"]
    save(format="WebP", overwrite=True)
    assert {path.suffix for path in output.glob("*/*/*")} == {".webp"}
    assert len(scanned_records(output / "animals")) == 4


def test_a1111_finds_each_images_own_prompt_and_seed(output):
    batch = make_batch()
    for spec, values in zip(batch.specs, save(batch)["synthgrid_records"], strict=True):
        with Image.open(output / "animals" / values["file_name"]) as image:
            assert image.text["parameters"].splitlines()[0] == spec.prompt
            settings = (
                f"Steps: 20, Schedule type: normal, Seed: {spec.seed}, Size: 8x8, Model: sd15"
            )
            assert f"{settings}, " in image.text["parameters"]


def test_half_precision_images_are_saved(output):
    images = make_images().half()
    values = save(images=images)["synthgrid_records"][3]
    pixels = np.asarray(Image.open(output / "animals" / values["file_name"]))
    assert np.array_equal(pixels, (images[3].float().numpy() * np.float32(255)).astype(np.uint8))


def test_the_new_widgets_are_optional_and_come_last():
    """The browser matches widgets by their order, so older saved workflows stay valid."""
    inputs = LabelledImageSaver.INPUT_TYPES()
    assert list(inputs["required"]) == ["images", "batch", "folder", "overwrite"]
    assert list(inputs["optional"]) == [
        "format",
        "compress_level",
        "quality",
        "keep_bad_images",
        "subfolders",
    ]
    defaults = {name: options["default"] for name, (_, options) in inputs["optional"].items()}
    assert defaults == {
        "format": "PNG",
        "compress_level": 4,
        "quality": 95,
        "keep_bad_images": False,
        "subfolders": "{label}",
    }


def test_the_card_follows_when_a_finished_folder_is_completed(output):
    save(make_batch(batch_size=2, index=1))
    assert "2 images of 2 classes" in (output / "animals" / "README.md").read_text()
    save(make_batch(batch_size=2, index=0))
    assert "4 images of 2 classes" in (output / "animals" / "README.md").read_text()


def test_a_disk_that_fills_up_leaves_neither_half_an_image_nor_a_record_without_one(output):
    """A real file size limit stops only the large image."""
    resource = pytest.importorskip("resource", reason="Windows has no file size limits")
    images = torch.full((4, 64, 64, 3), 0.5)
    images[2] = torch.rand(64, 64, 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(LabelsetError, match=r"^cannot write .*check space"):
            save(images=images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = (output / "animals" / "metadata.jsonl").read_text().splitlines()
    named = sorted(json.loads(line)["file_name"] for line in lines)
    there = sorted(path.relative_to(output / "animals").as_posix() for path in output.glob("*/*/*"))
    assert named == there
    assert [name[-10:-4] for name in named] == ["000000", "000001", "000003"]


def test_classes_that_would_share_a_folder_are_refused(output):
    with pytest.raises(LabelsetError, match="would share"):
        save(make_batch(("bat", "Bat")))


def test_somebody_elses_file_in_the_way_is_not_overwritten(output):
    ui = save()
    path = output / "animals" / ui["synthgrid_records"][0]["file_name"]
    Image.new("RGB", (4, 4)).save(path)
    before = path.read_bytes()
    with pytest.raises(LabelsetError, match="is in the way"):
        save()
    assert path.read_bytes() == before


@pytest.mark.parametrize("folder", ["../outside", "/tmp/outside", "a/../../b", "", " ", "."])
def test_a_folder_outside_the_output_folder_is_refused_before_sampling(output, folder):
    assert "must be a folder inside" in LabelledImageSaver.VALIDATE_INPUTS(folder=folder)


def test_a_folder_inside_is_accepted(output):
    assert LabelledImageSaver.VALIDATE_INPUTS(folder="animals/first") is True


def test_outside_any_host_the_saver_says_so(monkeypatch):
    monkeypatch.setattr(host, "_output_directory", None)
    assert "no output directory" in LabelledImageSaver.VALIDATE_INPUTS(folder="animals")


def test_a_sampler_that_breaks_reproducibility_is_named_in_the_node_and_in_the_log(output, caplog):
    graph = GRAPH | {
        "3": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_sde"}},
        "4": {"class_type": "SynthGridLabelledImageSaver", "inputs": {"images": ["3", 0]}},
    }
    text = save(prompt=graph, unique_id="4")["text"]
    assert text[0] == "4 saved, 0 already existed and were kept"
    assert text[1].startswith("sampler dpmpp_sde draws noise")
    assert "sampler dpmpp_sde" in caplog.text
    assert len(save(prompt=GRAPH, unique_id="2")["text"]) == 1


def test_a_damaged_file_in_the_way_is_named_with_the_next_step_and_kept(output):
    ui = save()
    path = output / "animals" / ui["synthgrid_records"][0]["file_name"]
    path.write_bytes(path.read_bytes()[:90])
    before = path.read_bytes()
    with pytest.raises(LabelsetError, match=rf"{path.name} is in the way and damaged .*; move it"):
        save()
    assert path.read_bytes() == before


def test_only_the_image_whose_place_is_taken_fails_and_the_others_are_saved(output):
    batch = make_batch()
    ui = save(batch)
    paths = [output / "animals" / values["file_name"] for values in ui["synthgrid_records"]]
    paths[0].write_bytes(b"somebody else's")
    paths[1].write_bytes(paths[1].read_bytes()[:90])
    paths[2].unlink()
    with pytest.raises(LabelsetError, match=r"1 more files are .* 1 images were saved, 1 already"):
        save(batch)
    assert paths[0].read_bytes() == b"somebody else's"
    assert read_record(paths[2].read_bytes()).index == 2
    assert read_record(paths[3].read_bytes()).index == 3


def test_the_chain_and_the_settings_before_the_saver_are_recorded(output):
    graph = GRAPH | {
        "3": {"class_type": "Sample", "inputs": {"model": ["1", 0], "sigmas": ["2", 0]}},
        "4": {"class_type": "SynthGridLabelledImageSaver", "inputs": {"images": ["3", 0]}},
        "9": {"class_type": "BasicScheduler", "inputs": {"steps": 99}},
    }
    for values in save(prompt=graph, unique_id="4")["synthgrid_records"]:
        assert values["settings"]["steps"] == 20
        assert values["settings"]["chain"] == [
            '{"CheckpointLoaderSimple": {"ckpt_name": "sd15.safetensors"}}',
            '{"BasicScheduler": {"model": "@0.0", "scheduler": "normal", "steps": 20}}',
            '{"Sample": {"model": "@0.0", "sigmas": "@1.0"}}',
            '{"SynthGridLabelledImageSaver": {"images": "@2.0"}}',
        ]
    assert len(scanned_records(output / "animals")) == 4


def test_a_graph_too_long_for_a_record_is_told_in_the_node(output):
    graph = {
        "3": {"class_type": "Text", "inputs": {"text": "x" * 20_000}},
        "4": {"class_type": "SynthGridLabelledImageSaver", "inputs": {"images": ["3", 0]}},
    }
    ui = save(prompt=graph, unique_id="4")
    assert "settings.chain has only their SHA-256" in ui["text"][1]
    assert len(json.dumps(ui["synthgrid_records"][0])) < 2_000


def test_a_file_of_0_bytes_is_replaced(output):
    ui = save()
    path = output / "animals" / ui["synthgrid_records"][0]["file_name"]
    path.write_bytes(b"")
    assert save()["text"] == ["1 saved, 3 already existed and were kept"]
    assert len(scanned_records(output / "animals")) == 4


def test_a_setting_that_is_no_number_makes_neither_answer_nor_record_invalid_json(output):
    graph = {"9": {"class_type": "CFGGuider", "inputs": {"cfg": float("nan")}}}
    ui = save(prompt=graph)
    json.dumps(ui["synthgrid_records"], allow_nan=False)
    for line in (output / "animals" / "metadata.jsonl").read_text("utf-8").splitlines():
        assert json.loads(line, parse_constant=pytest.fail)["settings"]["cfg"] is None
