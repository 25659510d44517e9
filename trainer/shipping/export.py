"""A trained run as a self-contained folder: weights, labels, preprocessing, model card, maybe ONNX.

<out>/model.safetensors    the whole network, backbone included
<out>/model.json           classes, input, preprocessing, and what the model was trained on
<out>/README.md            model card
<out>/model.onnx           with --format onnx; checked against torch before it is written
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from trainer.errors import ReportError
from trainer.models.registry import model_spec
from trainer.runs import read_json_file, to_json, write_file
from trainer.training.classifier import MODEL_FILE, STATE_FILE, Classifier, load_classifier

logger = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
CARD = "README.md"
PARITY = 1e-4  # largest difference between torch's and ONNX Runtime's probabilities
_OPSET = 18
_FORMAT = 1
_CARD_METRICS = {
    "accuracy": "accuracy",
    "precision": "macro precision",
    "recall": "macro recall",
    "f1": "macro F1",
}


def export_run(run: Path, out: Path, *, with_onnx: bool, weights: Path | None = None) -> Classifier:
    """Writes the folder and returns the classifier, read back from it.

    Raises:
        ReportError: `out` is not empty or cannot be written, `run` is not a finished run, the
            packages for ONNX are missing, or ONNX Runtime disagrees with torch.
        WeightsError: a frozen backbone's weights are not available.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReportError(
            f"{out} already exists and is left as it is; choose a new folder with --out"
        )
    classifier = load_classifier(run, weights=weights)
    onnx = _onnx(classifier) if with_onnx else None
    metrics = read_json_file(run / "metrics.json") if (run / "metrics.json").is_file() else {}
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in classifier.network.state_dict().items()}
    write_file(out / STATE_FILE, save(state))
    write_file(out / CARD, model_card(classifier, metrics, onnx=onnx is not None).encode())
    if onnx is not None:
        write_file(out / ONNX_FILE, onnx)
    # Last, since it marks the folder as complete.
    write_file(out / MODEL_FILE, to_json(_description(classifier, metrics)))
    return load_classifier(out)


def _description(classifier: Classifier, metrics: Mapping[str, Any]) -> dict[str, Any]:
    size = classifier.image_size_px
    return {
        "format": _FORMAT,
        "run": classifier.name,
        "model": classifier.model,
        "classes": list(classifier.classes),
        "image_size_px": size,
        "input": f"uint8 RGB pixels [N, 3, {size}, {size}]; normalisation is part of the network",
        "preprocessing": (
            f"largest centred square, resized to {size} x {size} (Pillow, bicubic); "
            "transparency on white"
        ),
        "output": (
            f"logits [N, {len(classifier.classes)}]; softmax gives probabilities in the order of "
            "classes"
        ),
        "test_metrics": {name: metrics[name] for name in _CARD_METRICS if name in metrics},
        "training": {
            name: value
            for name, value in classifier.details.items()
            if name not in ("classes", "model")
        },
    }


def _onnx(classifier: Classifier) -> bytes:
    """The network as ONNX bytes, checked.

    Raises:
        ReportError: the packages are missing, torch cannot export the network, or the results
            differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ReportError(
            f"ONNX export needs {error.name}; install with: pip install -e '.[export]'"
        ) from error
    size = classifier.image_size_px
    example = torch.from_numpy(_test_pixels(2, size))
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # they log every pass
        logging.getLogger(name).setLevel(logging.ERROR)
    program = torch.onnx.export(
        classifier.network,
        (example,),
        input_names=["pixels"],
        output_names=["logits"],
        opset_version=_OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = max(
        _difference(classifier, session, _test_pixels(count, size)) for count in (1, 5)
    )
    if not difference < PARITY:
        raise ReportError(
            f"ONNX Runtime differs from torch by {difference:.2g} in a probability, more than "
            f"{PARITY:g}; nothing was written: export with --format safetensors instead"
        )
    logger.info("ONNX Runtime and torch agree: largest probability difference %.1g", difference)
    return data


def _test_pixels(count: int, size: int) -> np.ndarray:
    """Smooth and noisy images: uint8 [count, 3, size, size]."""
    random = np.random.RandomState(0)
    ramp = np.linspace(0, 255, size)[None, None, None, :] * random.rand(count, 3, size, 1)
    return (0.7 * ramp + 0.3 * random.randint(0, 256, (count, 3, size, size))).astype(np.uint8)


def _difference(classifier: Classifier, session: Any, pixels: np.ndarray) -> float:
    with torch.inference_mode():
        expected = torch.softmax(
            classifier.network(torch.from_numpy(pixels)).double(), dim=1
        ).numpy()
    logits = torch.from_numpy(session.run(["logits"], {"pixels": pixels})[0])
    return float(np.abs(torch.softmax(logits.double(), dim=1).numpy() - expected).max())


def model_card(classifier: Classifier, metrics: Mapping[str, Any], *, onnx: bool) -> str:
    """What the model is, what it was trained on, its scores, and how to use it, in Markdown."""
    spec, details = model_spec(classifier.model), classifier.details
    scores = [
        f"| {title} | {metrics[name]:.3f} |"
        for name, title in _CARD_METRICS.items()
        if name in metrics
    ]
    made = [
        f"- {metrics.get('real_images', '?')} real and {metrics.get('synthetic_images', '?')} "
        f"synthetic training images, {metrics.get('validation_images', '?')} real ones held out to "
        "choose the checkpoint.",
        f"- Data fingerprint {details.get('data_fingerprint', '?')}, seed "
        f"{details.get('seed', '?')}, run {classifier.name}.",
    ]
    if spec.pretrained:
        made.append(f"- Started from the weights: {details.get('weights', '?')}.")
    lines = [
        f"# {spec.title}: {len(classifier.classes)} classes",
        "",
        "Trained with SynthGrid. Classes: " + ", ".join(classifier.classes) + ".",
        "",
        "## Training",
        "",
        *made,
        "",
        f"## On {metrics.get('test_images', '?')} real test images",
        "",
        "| metric | value |",
        "| --- | --- |",
        *scores,
        "",
        "One run of one seed; its grid's report has the uncertainty. The model knows only these "
        "classes and names one of them for any image. Probabilities are not calibrated unless the "
        "report's ECE says so.",
        "",
        "## Use",
        "",
        "```",
        "synthgrid predict <this folder> photo.jpg",
        "```",
        "",
        f"Input: {classifier.image_size_px} x {classifier.image_size_px} RGB pixels as 8-bit "
        "numbers, largest centred square of the image; normalisation is inside. `model.json` has "
        "classes and preprocessing for machines"
        + (", `model.onnx` takes `pixels` [N, 3, S, S] and gives `logits`." if onnx else "."),
        "",
    ]
    return "\n".join(lines)
