"""The committed checkpoint: small, safe to load, not made from the demo's images, and usable.

Covers: client.embedded.diffusion.checkpoints, client.embedded.nodes.models.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tools.tiny_digits.fidelity import Judge
from tools.tiny_digits.images import pixel_hash, read_digits
from tools.tiny_digits.sampling import Checkpoint, load_checkpoint, normal_schedule, sample
from trainer.data.sample_data import render_digit, write_sample_data

FOLDER = Path(__file__).parents[3] / "client" / "embedded" / "checkpoint" / "tiny-digits"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's digits, as many as there are."""
    folder = tmp_path_factory.mktemp("digits")
    write_sample_data(folder, train_per_class=30, test_per_class=30)
    return folder


@pytest.fixture(scope="module")
def trained_on() -> list[int]:
    indices = json.loads((FOLDER / "training_data.json").read_text(encoding="utf-8"))[
        "load_digits_indices"
    ]
    assert indices == sorted(set(indices))
    return indices


def test_weighs_less_than_6_mb_and_holds_no_pickle() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert {path.suffix for path in files} <= {".json", ".txt", ".md", ".safetensors"}


@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
def test_loads_as_a_stable_diffusion_pipeline_from_safetensors() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        FOLDER, use_safetensors=True, local_files_only=True
    )
    assert pipeline.vae_scale_factor == 8
    assert pipeline.unet.config.sample_size == 8
    assert pipeline.scheduler.config.prediction_type == "epsilon"


def test_was_trained_on_no_image_of_the_demo(demo: Path, trained_on: list[int]) -> None:
    images = load_digits().images
    learnt = {render_digit(images[index]).tobytes() for index in trained_on}
    shown = sorted(demo.rglob("*.png"))
    assert len(shown) == 600
    assert len(learnt) == 1197
    assert not {int(path.stem.removeprefix("digit-")) for path in shown} & set(trained_on)
    hashes = {digit.sha256 for part in ("train", "test") for digit in read_digits(demo / part)}
    assert hashes == {pixel_hash(path) for path in shown}
    assert not learnt & {
        render_digit(images[int(path.stem.removeprefix("digit-"))]).tobytes() for path in shown
    }


def test_draws_the_digit_that_the_default_prompt_names(checkpoint: Checkpoint, demo: Path) -> None:
    labels = [digit for digit in range(10) for _ in range(2)]
    images = sample(checkpoint, [f"a photo of a {label}" for label in labels], range(20))
    read = Judge(read_digits(demo / "train")).read(images)
    assert np.mean(read == np.array(labels)) >= 0.8, f"read {read.tolist()}"


def test_an_image_depends_on_its_seed_and_not_on_its_batch(checkpoint: Checkpoint) -> None:
    three, four = ["a photo of a 3"], ["a photo of a 4"]
    together = sample(checkpoint, three + four, [5, 6], steps=5).astype(int)
    alone = sample(checkpoint, four, [6], steps=5).astype(int)
    other = sample(checkpoint, four, [7], steps=5).astype(int)
    assert np.abs(together[1] - alone[0]).max() <= 1  # a batch may round the last bit otherwise
    assert np.abs(other[0] - alone[0]).mean() > 5


def test_obeys_steps_guidance_and_the_negative_prompt(checkpoint: Checkpoint) -> None:
    prompt, seed = ["a photo of a 8"], [3]
    plain = sample(checkpoint, prompt, seed, steps=8).astype(int)
    for changed in (
        {"steps": 16},
        {"steps": 8, "cfg": 7.0},
        {"steps": 8, "negative_prompt": "bold strokes"},
    ):
        assert (
            np.abs(sample(checkpoint, prompt, seed, **changed).astype(int) - plain).mean() > 0.5
        ), changed


def test_puts_chalk_on_a_blackboard_and_ink_on_white_paper(checkpoint: Checkpoint) -> None:
    prompts = ["a photo of a 3, white chalk on a blackboard", "a photo of a 3"]
    board, paper = sample(checkpoint, prompts, [1, 1])
    assert np.median(board) < 90
    assert board.max() > 180
    assert np.median(paper[:2]) > 230
    assert paper.min() < 70


def test_words_it_does_not_know_fall_back_to_bytes(checkpoint: Checkpoint) -> None:
    tokens = checkpoint.tokenizer("zwölf 🙂").input_ids
    assert checkpoint.tokenizer.unk_token_id == checkpoint.tokenizer.eos_token_id
    assert tokens.count(checkpoint.tokenizer.eos_token_id) == 1


def test_the_schedule_is_comfyuis_normal_one() -> None:
    timesteps, sigmas = normal_schedule(20)
    assert timesteps[0] == 999
    assert timesteps[-1] == 0
    assert sigmas[0] == pytest.approx(14.6146, abs=1e-3)
    assert sigmas[-2] == pytest.approx(0.0292, abs=1e-3)
    assert sigmas[-1] == 0
