"""A trained run as a self-contained folder: weights, labels, preprocessing, model card, maybe ONNX.

<out>/model.safetensors    the whole network, backbone included
<out>/model.json           classes, input, preprocessing, and what the model was trained on
<out>/README.md            model card, with front matter for the Hub and code to copy
<out>/model.onnx           with --format onnx; checked against torch before it is written

model.safetensors and model.onnx carry classes and preprocessing in their own metadata as well, so
that each is enough by itself.
"""

from __future__ import annotations

import json
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
from trainer.shipping.card import CARD_METRICS, model_card
from trainer.training.classifier import MODEL_FILE, STATE_FILE, Classifier, load_classifier

logger = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
CARD = "README.md"
PARITY = 1e-4  # largest difference between torch's and ONNX Runtime's logits, see `_difference`
_OPSET = 18
_FORMAT = 1


def export_run(
    run: Path,
    out: Path,
    *,
    with_onnx: bool,
    weights: Path | None = None,
    license_id: str | None = None,
) -> Classifier:
    """Writes the folder and returns the classifier, read back from it. The card names `license_id`,
    if there is one.

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
    write_file(out / STATE_FILE, save(state, {"format": "pt", **file_metadata(classifier)}))
    card = model_card(classifier, metrics, onnx=onnx is not None, license_id=license_id)
    write_file(out / CARD, card.encode())
    if onnx is not None:
        write_file(out / ONNX_FILE, onnx)
    # Last, since it marks the folder as complete.
    write_file(out / MODEL_FILE, to_json(_description(classifier, metrics)))
    return load_classifier(out)


def file_metadata(classifier: Classifier) -> dict[str, str]:
    """What a weights file says of itself: texts only, as safetensors and ONNX have them.

    `classes` is a JSON list in the order of the logits, `mean` and `std` are JSON lists for pixels
    of 0 to 1. The network does that normalisation itself.
    """
    spec, size = model_spec(classifier.model), classifier.image_size_px
    return {
        "model": classifier.model,
        "classes": json.dumps(list(classifier.classes), ensure_ascii=False),
        "image_size_px": str(size),
        "input": _input(size),
        "preprocessing": _preprocessing(size),
        "mean": json.dumps([float(each) for each in spec.mean]),
        "std": json.dumps([float(each) for each in spec.std]),
        "normalisation": "(pixels / 255 - mean) / std, part of the network",
    }


def _input(size: int) -> str:
    return f"uint8 RGB pixels [N, 3, {size}, {size}]; normalisation is part of the network"


def _preprocessing(size: int) -> str:
    return (
        f"largest centred square, resized to {size} x {size} (Pillow, bicubic); "
        "transparency on white"
    )


def _description(classifier: Classifier, metrics: Mapping[str, Any]) -> dict[str, Any]:
    size = classifier.image_size_px
    return {
        "format": _FORMAT,
        "run": classifier.name,
        "model": classifier.model,
        "classes": list(classifier.classes),
        "image_size_px": size,
        "input": _input(size),
        "preprocessing": _preprocessing(size),
        "output": (
            f"logits [N, {len(classifier.classes)}]; softmax gives probabilities in the order of "
            "classes"
        ),
        "test_metrics": {name: metrics[name] for name in CARD_METRICS if name in metrics},
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
    model = program.model_proto
    for key, value in file_metadata(classifier).items():
        model.metadata_props.add(key=key, value=value)
    data: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = max(
        _difference(classifier, session, _test_pixels(count, size)) for count in (1, 5)
    )
    if not difference < PARITY:
        raise ReportError(
            f"ONNX Runtime differs from torch by {difference:.2g} of the largest logit, more than "
            f"{PARITY:g}; nothing was written: export with --format safetensors instead"
        )
    logger.info("ONNX Runtime and torch agree: logits differ by %.1g of the largest", difference)
    return data


def _test_pixels(count: int, size: int) -> np.ndarray:
    """Smooth and noisy images: uint8 [count, 3, size, size]."""
    random = np.random.RandomState(0)
    ramp = np.linspace(0, 255, size)[None, None, None, :] * random.rand(count, 3, size, 1)
    return (0.7 * ramp + 0.3 * random.randint(0, 256, (count, 3, size, size))).astype(np.uint8)


def _difference(classifier: Classifier, session: Any, pixels: np.ndarray) -> float:
    """The largest difference of a logit, as a share of the largest logit.

    Probabilities would not do: images unlike all training images often have one of 1.
    """
    with torch.inference_mode():
        expected = classifier.network(torch.from_numpy(pixels)).numpy()
    (found,) = session.run(["logits"], {"pixels": pixels})
    largest = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
    return float(np.abs(found - expected).max() / largest)
