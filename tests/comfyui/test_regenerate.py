"""Rejected images are made again on a real ComfyUI: by the client, and by an artist who resumes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd15_checkpoint import NAME

from client.__main__ import main
from client.folder.verify import verify
from client.run.runner import run_plan
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from comfy_nodes.labelset import set_aside
from comfy_nodes.labelset.quality.verdicts import Verdict, quality_folder, write_verdicts
from comfy_nodes.plan import ClassEntry
from tests.comfy_nodes.helpers import scanned_records

FOLDER = Path(__file__).resolve().parents[2] / "workflows" / "api"


@pytest.fixture
def workflow(comfyui):
    """img2img, two classes of three images, from two real images of each class."""
    for label in ("badger", "bat"):
        folder = comfyui.base / "input" / "regenerate" / label
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.effect_noise((90, 70), 60 + 40 * number).convert("RGB").save(
                folder / f"photo {number}.png"
            )
    options = Options(
        classes=(ClassEntry("badger"), ClassEntry("bat")), images_per_class=3, batch_size=4,
        checkpoint=NAME, width=64, height=64, steps=2, real_folder="regenerate", strength=0.5,
    )  # fmt: skip
    return patch(load_workflow(FOLDER / "sd15_from_real_images.json"), options)


def by_row(root):
    return {record.index: record for record in scanned_records(root).values()}


def verdicts(root, rejected):
    return [
        Verdict(each.sha256, each.file_name, each.label, "bad" if each.index in rejected else "")
        for each in by_row(root).values()
    ]


def pixels(root, record):
    with Image.open(root / record.file_name) as image:
        return np.asarray(image).astype(int)


def images(root):
    return {path.name: path.read_bytes() for path in root.glob("*/*.png")}


def test_a_rejected_image_is_made_again_from_the_same_prompt_and_real_image(
    comfyui, workflow, tmp_path
):
    root = tmp_path / "syn"
    run_plan(workflow, comfyui.url, root)
    before, files = by_row(root), images(root)
    for number in (1, 2):
        write_verdicts(quality_folder(root) / f"{number}.csv", verdicts(root, {1, 4}))
        assert main(["regenerate", str(root), "--server", comfyui.url]) == 0
        after = by_row(root)
        assert {index: each.attempt for index, each in after.items()} == {
            0: 0, 1: number, 2: 0, 3: 0, 4: number, 5: 0,
        }  # fmt: skip
        assert verify(root).sound
    for index, record in after.items():
        old = before[index]
        assert (record.prompt, record.source_sha256) == (old.prompt, old.source_sha256)
        if index in (1, 4):
            assert record.seed == workflow.plan().row(index, attempt=2).seed != old.seed
        else:
            assert images(root)[Path(record.file_name).name] == files[Path(old.file_name).name]
    # the batcher's own words for the same row make the same image
    only = workflow.for_batch(0, folder="words", only="1@2")
    comfyui.run(only)
    (made,) = by_row(comfyui.base / "output" / "words").values()
    assert (made.attempt, made.seed) == (2, after[1].seed)
    there = pixels(comfyui.base / "output" / "words", made)
    assert np.abs(there - pixels(root, after[1])).max() <= 1  # of 255: both are rounded


def test_an_artist_who_resumes_gets_the_next_attempt_at_what_was_set_aside(comfyui, workflow):
    root = comfyui.base / "output" / "artist"
    batcher, saver = (
        workflow.only_id_of(f"SynthGrid{name}")
        for name in ("ClassPromptBatcher", "LabelledImageSaver")
    )
    graph = dict(workflow.with_values({(saver, "folder"): "artist"}).graph)
    comfyui.run(graph)
    before = images(root)
    set_aside(root, verdicts(root, {2}), scorer="a.csv")
    resumed = workflow.with_values(
        {(saver, "folder"): "artist", (batcher, "resume_folder"): "artist"}
    )
    comfyui.run(dict(resumed.graph))
    after = by_row(root)
    assert {index: each.attempt for index, each in after.items()} == {0: 0, 1: 0, 2: 1, 3: 0}
    changed = {name for name, data in images(root).items() if before[name] != data}
    assert changed == {Path(after[2].file_name).name}
