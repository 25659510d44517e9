"""Using what was trained: a run and its export say the same, of files, of folders, and of labelled
images.

Covers: trainer.commands.evaluate, trainer.commands.export, trainer.commands.predict,
trainer.shipping.export, trainer.training.classifier.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.errors import ReportError, RunError, WeightsError
from trainer.grid.grid import run_grid
from trainer.runs import read_predictions
from trainer.shipping.export import export_run
from trainer.shipping.predict import evaluate_folder, find_images, predict_images
from trainer.training.classifier import load_classifier


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    """real/ and a grid/ of a CNN and a frozen ResNet50, a run each."""
    root = tmp_path_factory.mktemp("trained")
    make_shapes(root / "real" / "train", per_class=6, seed=1)
    make_shapes(root / "real" / "test", per_class=5, seed=2)
    run_grid(
        GridConfig(
            str(root / "real"),
            str(root / "grid"),
            models=("cnn", "resnet50"),
            ratios=(0.0,),
            seeds=1,
            image_size_px=32,
            updates=40,
            device="cpu",
            allow_untrained=True,
        )
    )
    return root


def run_of(folders: Path, model: str) -> Path:
    (run,) = (folders / "grid").glob(f"{model}-*")
    return run


@pytest.mark.parametrize("model", ["cnn", "resnet50"])
def test_a_run_predicts_what_it_predicted_when_it_was_trained(folders: Path, model: str) -> None:
    run = run_of(folders, model)
    recorded = read_predictions(run.parent, run.name)
    found = predict_images(
        load_classifier(run), [folders / "real" / "test" / each.file for each in recorded]
    )
    assert [each.top[0][0] for each in found] == [each.predicted for each in recorded]
    np.testing.assert_allclose(
        [each.top[0][1] for each in found], [each.p_predicted for each in recorded], atol=2e-4
    )


@pytest.mark.parametrize("model", ["cnn", "resnet50"])
def test_an_exported_folder_needs_neither_run_nor_weights(
    folders: Path, model: str, tmp_path: Path
) -> None:
    run, images = run_of(folders, model), find_images([folders / "real" / "test"])
    export_run(run, tmp_path / "model", with_onnx=model == "cnn")
    before, after = (
        predict_images(load_classifier(each), images, top=3) for each in (run, tmp_path / "model")
    )
    assert before == after
    names = {each.name for each in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "model.json", "README.md"} | (
        {"model.onnx"} if model == "cnn" else set()
    )


def test_onnx_runtime_gives_torchs_probabilities_for_any_batch(
    folders: Path, tmp_path: Path
) -> None:
    import onnxruntime

    classifier = export_run(run_of(folders, "cnn"), tmp_path / "model", with_onnx=True)
    session = onnxruntime.InferenceSession(
        tmp_path / "model" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    pixels = np.random.RandomState(3).randint(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    logits = session.run(
        ["logits"], {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
    )[0]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), classifier.probabilities(pixels), atol=1e-4
    )


def test_the_card_and_the_description_say_what_the_model_is(folders: Path, tmp_path: Path) -> None:
    run = run_of(folders, "cnn")
    export_run(run, tmp_path / "model", with_onnx=False)
    values = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (values["classes"], values["image_size_px"], values["run"]) == (
        ["circle", "cross", "square"],
        32,
        run.name,
    )
    assert values["test_metrics"]["f1"] == metrics["f1"]
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| macro F1 | {metrics['f1']:.3f} |" in card
    assert "circle, cross, square" in card


def test_evaluation_of_the_test_folder_is_the_runs_own(folders: Path) -> None:
    run = run_of(folders, "cnn")
    found = evaluate_folder(load_classifier(run), folders / "real" / "test")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert found.images == metrics["test_images"]
    for name in ("accuracy", "f1"):
        assert found.metrics[name] == pytest.approx(metrics[name], abs=1e-9)
    assert found.confusion.sum() == found.images


def test_a_folder_with_some_of_the_classes_can_be_evaluated(
    folders: Path, tmp_path: Path, make_shapes: Callable[..., Path]
) -> None:
    make_shapes(tmp_path, per_class=2, seed=9)
    for path in (tmp_path / "square").iterdir():
        path.unlink()
    (tmp_path / "square").rmdir()
    assert set(evaluate_folder(load_classifier(run_of(folders, "cnn")), tmp_path).recalls) == {
        "circle",
        "cross",
    }


def failure(caplog: pytest.LogCaptureFixture, *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 1
    return caplog.messages[-1]


def test_one_damaged_image_does_not_stop_the_others(
    folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert (
        main(["predict", str(run_of(folders, "cnn")), str(tmp_path), "--json", "--top", "2"]) == 1
    )
    whole, damaged = json.loads(capsys.readouterr().out)
    assert [each["class"] in ("circle", "cross", "square") for each in whole["top"]] == [True, True]
    assert "not a whole image" in damaged["error"]
    assert "b.png is not a whole image" in caplog.text


def test_mistakes_are_reported_in_one_line(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(folders, "cnn")
    (tmp_path / "zebra").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "zebra" / "0.png")
    assert "is a whole grid; name one of its runs: cnn-" in failure(
        caplog, "predict", folders / "grid", tmp_path
    )
    assert "contains neither a run nor an exported model" in failure(
        caplog, "predict", tmp_path, tmp_path
    )
    assert "nothing.png does not exist" in failure(caplog, "predict", run, tmp_path / "nothing.png")
    assert "does not know: zebra" in failure(caplog, "evaluate", run, tmp_path)
    assert "already exists and is left as it is" in failure(
        caplog, "export", run, "--out", tmp_path
    )


def test_an_unfinished_run_is_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((run_of(folders, "cnn") / "config.json").read_bytes())
    with pytest.raises(RunError, match="is not done"):
        load_classifier(tmp_path)


def test_a_truncated_model_file_is_named(folders: Path, tmp_path: Path) -> None:
    export_run(run_of(folders, "cnn"), tmp_path / "model", with_onnx=False)
    state = tmp_path / "model" / "model.safetensors"
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(ReportError, match=r"model\.safetensors cannot be read"):
        load_classifier(tmp_path / "model")


def test_other_weights_than_those_of_the_training_are_refused(
    folders: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in run_of(folders, "resnet50").iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config |= {"weights": "mine.safetensors", "weights_fingerprint": "0" * 16}
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "other.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match="is not the file that run run was trained with"):
        load_classifier(run, weights=tmp_path / "other.safetensors")
