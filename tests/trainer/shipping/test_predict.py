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
from trainer.errors import ReportError, RunError, WeightsError
from trainer.runs import read_predictions
from trainer.shipping.export import export_run
from trainer.shipping.predict import evaluate_folder, find_images, predict_images
from trainer.training.classifier import load_classifier


@pytest.mark.parametrize("trained", ["run", "frozen_run"])
def test_a_run_predicts_what_it_predicted_when_it_was_trained(
    folders: Path, trained: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(trained)
    recorded = read_predictions(run.parent, run.name)
    found = predict_images(
        load_classifier(run), [folders / "real" / "test" / each.file for each in recorded]
    )
    assert [each.top[0][0] for each in found] == [each.predicted for each in recorded]
    np.testing.assert_allclose(
        [each.top[0][1] for each in found], [each.p_predicted for each in recorded], atol=2e-4
    )


def assert_alike(run: Path, model: Path, images: list[Path]) -> None:
    before, after = (predict_images(load_classifier(each), images, top=3) for each in (run, model))
    assert before == after


def test_an_exported_folder_needs_neither_run_nor_weights(
    folders: Path, run: Path, frozen_run: Path, exported: Path, tmp_path: Path
) -> None:
    images, out = find_images([folders / "real" / "test"]), tmp_path / "model"
    export_run(frozen_run, out, with_onnx=False)
    assert_alike(run, exported, images)
    assert_alike(frozen_run, out, images)
    names = {"model.safetensors", "model.json", "README.md"}
    assert {each.name for each in out.iterdir()} == names
    assert {each.name for each in exported.iterdir()} == names | {"model.onnx"}


def test_onnx_runtime_gives_torchs_probabilities_for_any_batch(exported: Path) -> None:
    import onnxruntime

    classifier = load_classifier(exported)
    session = onnxruntime.InferenceSession(
        exported / "model.onnx", providers=["CPUExecutionProvider"]
    )
    pixels = np.random.RandomState(3).randint(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    logits = session.run(
        ["logits"], {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
    )[0]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), classifier.probabilities(pixels), atol=1e-4
    )


def test_the_card_and_the_description_say_what_the_model_is(run: Path, exported: Path) -> None:
    values = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (values["classes"], values["image_size_px"], values["run"]) == (
        ["circle", "cross", "square"],
        32,
        run.name,
    )
    assert values["test_metrics"]["f1"] == metrics["f1"]
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert f"| macro F1 | {metrics['f1']:.3f} |" in card
    assert "circle, cross, square" in card


def test_evaluation_of_the_test_folder_is_the_runs_own(folders: Path, run: Path) -> None:
    found = evaluate_folder(load_classifier(run), folders / "real" / "test")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert found.images == metrics["test_images"]
    for name in ("accuracy", "f1"):
        assert found.metrics[name] == pytest.approx(metrics[name], abs=1e-9)
    assert found.confusion.sum() == found.images


def test_a_folder_with_some_of_the_classes_can_be_evaluated(
    run: Path, tmp_path: Path, make_shapes: Callable[..., Path]
) -> None:
    make_shapes(tmp_path, per_class=2, seed=9)
    for path in (tmp_path / "square").iterdir():
        path.unlink()
    (tmp_path / "square").rmdir()
    assert set(evaluate_folder(load_classifier(run), tmp_path).recalls) == {
        "circle",
        "cross",
    }


def failure(caplog: pytest.LogCaptureFixture, *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 1
    return caplog.messages[-1]


def test_one_damaged_image_does_not_stop_the_others(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert main(["predict", str(run), str(tmp_path), "--json", "--top", "2"]) == 1
    whole, damaged = json.loads(capsys.readouterr().out)
    assert [each["class"] in ("circle", "cross", "square") for each in whole["top"]] == [True, True]
    assert "not a whole image" in damaged["error"]
    assert "b.png is not a whole image" in caplog.text


def test_mistakes_are_reported_in_one_line(
    folders: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(RunError, match="is not done"):
        load_classifier(tmp_path)


def test_a_truncated_model_file_is_named(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "model", with_onnx=False)
    state = tmp_path / "model" / "model.safetensors"
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(ReportError, match=r"model\.safetensors cannot be read"):
        load_classifier(tmp_path / "model")


def test_other_weights_than_those_of_the_training_are_refused(
    frozen_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in frozen_run.iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config |= {"weights": "mine.safetensors", "weights_fingerprint": "0" * 16}
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "other.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match="is not the file that run run was trained with"):
        load_classifier(run, weights=tmp_path / "other.safetensors")
