"""A pretraining run from its folder of images to its weights.

Covers: trainer.pretrain.config, trainer.pretrain.networks, trainer.pretrain.checkpoint,
trainer.pretrain.source, trainer.pretrain.output, trainer.commands.pretrain.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from synthgrid.__main__ import main
from trainer.errors import ConfigError, DataError
from trainer.models.registry import model_spec
from trainer.models.weights import find_weights, given_weights, load_backbone, weights_file
from trainer.pretrain.checkpoint import CHECKPOINT, Position
from trainer.pretrain.config import PretrainConfig, new_config
from trainer.pretrain.networks import Learner, Projector, new_optimiser
from trainer.pretrain.output import locked, open_out, write_result
from trainer.pretrain.source import read_source, redeal_captions
from trainer.pretrain.training import batch_of, pretrain

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).resolve().parents[3]
QUICK = {"model": "cnn", "updates": 6, "batch_views": 12, "per_caption": 3, "image_size_px": 32}


def quick(**changed: Any) -> PretrainConfig:
    return new_config(**{**QUICK, "width": 16, "out": 8, **changed})


def command(images: Path, out: Path, *more: str) -> list[str]:
    given = ["--updates", "6", "--batch", "12", "--per-caption", "3", "--image-size", "32"]
    return ["pretrain", "--images", str(images), "--out", str(out), *given, *more]


def test_the_prompts_of_the_records_are_the_captions(captioned: Path) -> None:
    source = read_source([captioned])
    assert source.captions == ("a blue circle", "a blue square", "a red circle", "a red square")
    assert [len(each) for each in source.groups] == [4, 4, 4, 4]
    assert source.classes == ("circle", "square")
    with pytest.raises(DataError, match="given twice"):
        read_source([captioned, captioned])


def test_one_caption_gives_nothing_to_tell_apart(tmp_path: Path, make_labelled: Any) -> None:
    from PIL import Image

    made = make_labelled(tmp_path / "one", {"a": [Image.new("RGB", (32, 32))]})
    with pytest.raises(DataError, match="at least two"):
        read_source([made])


def test_what_belongs_together_follows_the_method(captioned: Path) -> None:
    source = read_source([captioned])
    for method, positives, groups in (
        ("stablerep", "", 4),
        ("stablerep", "class", 2),
        ("simclr", "", 6),
        ("supcon", "", 2),
        ("supervised", "", 2),
        ("stablerep+", "", 4),
    ):
        rows, ids = batch_of(quick(method=method, positives=positives), source, 0)
        assert len(rows) == len(ids) == 12
        assert len(set(ids.tolist())) == groups
    rows, ids = batch_of(quick(method="simclr"), source, 0)
    assert torch.equal(rows[:6], rows[6:])
    assert len(set(rows.tolist())) == 6
    rows, ids = batch_of(quick(), source, 0)
    assert torch.equal(ids, source.caption_ids[rows])


def test_redealt_captions_are_others_in_every_update_for_the_same_images(captioned: Path) -> None:
    source = read_source([captioned])
    dealt = redeal_captions(source, seed=3)
    assert dealt.fingerprints != source.fingerprints
    seen = []
    for step in range(4):
        rows, ids = batch_of(quick(), source, step)
        again, other = batch_of(quick(), dealt, step)
        assert torch.equal(rows, again)
        assert torch.equal(ids.sort().values, other.sort().values)
        assert torch.equal(other, batch_of(quick(), dealt, step)[1])
        seen.append(tuple((other == ids).tolist()))
    assert len(set(seen)) == 4


def test_the_learning_rate_grows_with_the_views_that_are_really_drawn() -> None:
    assert quick(batch_views=512, per_caption=4, base_rate=1.0).rate == 1.0
    assert quick(batch_views=130, per_caption=4, base_rate=1.0).rate == 128 / 512


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "byol"}, "--method byol is unknown"),
        ({"method": "simclr", "positives": "class"}, "no meaning with simclr"),
        ({"method": "supervised", "positives": "class"}, "which learns the classes"),
        ({"text_width": 100}, "--text-width must be a multiple of 64, not 100"),
        ({"text_layers": 0}, "--text-layers must be at least 1"),
        ({"positives": "colour"}, "choose caption or class"),
        ({"batch_views": 3}, "--batch must be at least 6"),
        ({"temperature": 0.0}, "--temperature must be above 0"),
        ({"model": "resnet19"}, "did you mean 'resnet18'"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_option(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        quick(**changed)


def test_the_projector_normalises_each_view_by_itself() -> None:
    torch.manual_seed(0)
    projector = Projector(4, 6, 5).train()
    first, second = torch.randn(8, 4), 10 + 3 * torch.randn(8, 4)
    together = projector(torch.cat([first, second]), 2)
    assert torch.allclose(together[:8], projector(first, 1), atol=1e-5)
    assert not torch.allclose(together, projector(torch.cat([first, second]), 1), atol=1e-2)


def test_dropout_is_off_and_only_matrices_decay() -> None:
    learner = Learner(quick()).train()
    assert not any(each.training for each in learner.modules() if isinstance(each, nn.Dropout))
    decays, stays = new_optimiser(learner, quick()).param_groups
    assert decays["weight_decay"] == 0.1
    assert stays["weight_decay"] == 0.0
    assert {each.ndim for each in stays["params"]} == {1}
    assert decays["betas"] == (0.9, 0.98)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_bits(captioned: Path, tmp_path: Path, stop: int) -> None:
    source = read_source([captioned])

    def run(out: Path, stop_at: int = 0) -> dict[str, torch.Tensor]:
        def on_update(update: int) -> None:
            if update == stop_at:
                raise KeyboardInterrupt

        learner, position = pretrain(
            quick(),
            source,
            out,
            device=CPU,
            checkpoint_every=2,
            curve_every=3,
            on_update=on_update,
        )
        curves.append(position.curve)
        return learner.state_dict()

    curves: list[Any] = []
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop)
    resumed = run(tmp_path / "stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert curves[0] == curves[1]
    assert [row["update"] for row in curves[0]] == [3, 6]


def test_a_point_of_the_curve_is_the_mean_loss_since_the_point_before(
    captioned: Path, tmp_path: Path
) -> None:
    source = read_source([captioned])

    def curve(name: str, every: int) -> list[float]:
        out = tmp_path / name
        _, position = pretrain(quick(), source, out, device=CPU, curve_every=every)
        return [row["loss"] for row in position.curve]

    single, triple = curve("single", 1), curve("triple", 3)
    assert triple == pytest.approx([sum(single[:3]) / 3, sum(single[3:]) / 3])


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_weights(captioned: Path, tmp_path: Path) -> None:
    more = ("--checkpoint-every", "1", "--curve-every", "50")
    arguments = command(captioned, tmp_path / "killed", *more)
    arguments[arguments.index("--updates") + 1] = "120"
    line = [sys.executable, "-m", "synthgrid", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills, before = 0, -1
    while kills < 3:
        with subprocess.Popen(line, cwd=REPOSITORY, env=environment) as process:
            path = tmp_path / "killed" / CHECKPOINT
            while process.poll() is None:
                if path.is_file() and path.stat().st_mtime_ns > before + 10**8:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    before, kills = path.stat().st_mtime_ns, kills + 1
                    break
            else:
                break
    assert kills == 3
    for out in ("killed", "whole"):
        line[line.index("--out") + 1] = str(tmp_path / out)
        subprocess.run(line, cwd=REPOSITORY, env=environment, check=True)
    one, other = (
        (tmp_path / out / "model.safetensors").read_bytes() for out in ("killed", "whole")
    )
    assert one == other


def test_the_command_writes_a_run_that_is_finished_once(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pre"
    assert main(command(captioned, out)) == 0
    assert "cnn after 6 updates on 16 images of 4 captions" in capsys.readouterr().out
    stored = json.loads((out / "config.json").read_text())
    assert stored["config"]["image_size_px"] == 32
    assert stored["captions"] == 4
    assert len(stored["images"]) == 1
    assert "torch" in stored["versions"]
    curve = json.loads((out / "curve.json").read_text())
    assert curve[-1]["update"] == 6
    assert 0 <= curve[-1]["knn"] <= 1
    assert "synthgrid probe" in (out / "README.md").read_text()
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert main(command(captioned, out)) == 0
    assert "finished" in capsys.readouterr().out
    assert (out / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("method", ["stablerep+", "supervised"])
def test_other_methods_write_the_same_kind_of_run(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    out = tmp_path / "pre"
    text = ("--text-width", "64", "--text-layers", "1")
    assert main(command(captioned, out, "--method", method, *text)) == 0
    stored = json.loads((out / "config.json").read_text())["config"]
    assert stored["method"] == method
    assert ("text_width" in stored) == (method == "stablerep+")
    assert main(command(captioned, out, "--method", method, *text)) == 0
    assert "is finished" in capsys.readouterr().out
    names = load_file(out / "model.safetensors").keys()
    assert names == Learner(quick()).backbone.state_dict().keys()
    find_weights("cnn:finetune", given=out, allow_untrained=False)


def test_supervised_training_learns_the_classes(captioned: Path, tmp_path: Path) -> None:
    source = read_source([captioned])
    config = quick(method="supervised", updates=20, batch_views=24, base_rate=0.05, crop=0.6)
    learner, position = pretrain(config, source, tmp_path / "pre", device=CPU, curve_every=5)
    losses = [row["loss"] for row in position.curve]
    assert losses[-1] < 0.75 * losses[0]
    features = torch.zeros(1, config.spec.feature_dim)
    assert learner.projector(features, 1).shape == (1, 2)


def test_a_run_from_before_there_was_a_text_tower_is_still_the_same_run(
    captioned: Path, tmp_path: Path
) -> None:
    source = read_source([captioned])
    assert open_out(tmp_path / "pre", quick(), source) is False
    path = tmp_path / "pre" / "config.json"
    assert not [name for name in json.loads(path.read_text())["config"] if "text" in name]
    assert open_out(tmp_path / "pre", quick(text_width=512), source) is False


def test_the_same_weights_are_the_same_file(captioned: Path, tmp_path: Path) -> None:
    source, found = read_source([captioned]), set()
    learner, position = Learner(quick()), Position(1, [{"loss": 1.0, "knn": None}])
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        write_result(tmp_path / str(number), quick(), source, learner, position)
        found.add((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert len(found) == 1


def test_a_folder_of_something_else_is_left_alone(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    assert main(command(captioned, mine)) == 1
    assert "left as it is" in capsys.readouterr().err
    assert [each.name for each in mine.iterdir()] == ["notes.txt"]
    assert main(command(captioned, tmp_path / "pre")) == 0
    assert main(command(captioned, tmp_path / "pre", "--seed", "1")) == 1
    assert "seed 0 there, 1 here" in capsys.readouterr().err


def test_two_processes_do_not_train_one_run(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pre"
    open_out(out, quick(width=0, out=256), read_source([captioned]))
    with locked(out):
        assert main(command(captioned, out)) == 1
    assert "by another process" in capsys.readouterr().err
    assert not (out / CHECKPOINT).exists()
    assert main(command(captioned, out)) == 0


def test_a_grid_takes_the_run_for_a_weights_file(captioned: Path, tmp_path: Path) -> None:
    out = tmp_path / "pre"
    main(command(captioned, out))
    found = given_weights(f"cnn={out}", ["cnn:finetune"])
    weights = find_weights("cnn:finetune", given=found["cnn:finetune"], allow_untrained=False)
    assert weights.source == "pre"
    assert weights_file(out) == weights.path == out / "model.safetensors"
    network = load_backbone("cnn:frozen", weights)
    for name, value in load_file(out / "model.safetensors").items():
        assert torch.equal(network.state_dict()[name], value)
    assert not any(name.startswith("fc") for name in load_file(out / "model.safetensors"))
    other = tmp_path / "other"
    main(command(captioned, other, "--seed", "1"))
    again = find_weights("cnn:finetune", given=other, allow_untrained=False)
    assert again.fingerprint != weights.fingerprint


def test_a_grid_trains_on_from_the_run_and_its_runs_say_so(
    captioned: Path, tmp_path: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pre, out = tmp_path / "pre", tmp_path / "grid"
    main(command(captioned, pre))
    wanted = find_weights("cnn:frozen", given=pre, allow_untrained=False).fingerprint
    line = ["grid", "--real", str(real), "--ratios", "0", "--seeds", "1", "--updates", "2"]
    both = ["--weights", f"cnn:frozen={pre}", "--weights", f"cnn:finetune={pre}"]
    models = ["--models", "cnn:frozen,cnn:finetune", "--image-size", "32", "--quick"]
    assert main([*line, *models, *both, "--out", str(out)]) == 0
    runs = [path.parent for path in sorted(out.glob("*/config.json"))]
    assert len(runs) == 2
    for run in runs:
        stored = json.loads((run / "config.json").read_text())
        assert stored["weights"] == "pre"
        assert stored["weights_fingerprint"] == wanted
        capsys.readouterr()
        assert main(["predict", str(run), str(real / "test" / "circle" / "000.png")]) == 0
        assert "000.png: " in capsys.readouterr().out


def test_a_short_name_and_a_damaged_checkpoint(captioned: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    assert quick(model="vit_s", image_size_px=32).model == "timm:vit_small_patch16_224"
    assert model_spec("timm:vit_small_patch16_224").feature_dim == 384
    (tmp_path / "pre").mkdir()
    (tmp_path / "pre" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot go on from"):
        pretrain(quick(), read_source([captioned]), tmp_path / "pre", device=CPU)
