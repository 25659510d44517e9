"""The model card of an exported model: front matter for the Hub, training, scores, code to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_nodes.labelset.card import yaml_text
from trainer.models.registry import model_spec
from trainer.training.classifier import Classifier

CARD_METRICS = {
    "accuracy": "accuracy",
    "precision": "macro precision",
    "recall": "macro recall",
    "f1": "macro F1",
}
# Needs neither SynthGrid nor torch. A test runs it as it stands and compares it with `predict`.
_ONNX_CODE = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
about = session.get_modelmeta().custom_metadata_map
classes, side = json.loads(about["classes"]), int(about["image_size_px"])

image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
image = ImageOps.fit(image, (side, side), method=Image.Resampling.BICUBIC)
pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])

(logits,) = session.run(["logits"], {"pixels": pixels})
probabilities = np.exp(logits[0] - logits[0].max())
probabilities /= probabilities.sum()
for probability, name in sorted(zip(probabilities, classes), reverse=True):
    print(f"{probability:.3f}  {name}")"""


def model_card(
    classifier: Classifier,
    metrics: Mapping[str, Any],
    *,
    onnx: bool,
    license_id: str | None = None,
) -> str:
    """What the model is, what it was trained on, its scores, and how to use it, in Markdown."""
    spec = model_spec(classifier.model)
    scores = [
        f"| {title} | {metrics[name]:.3f} |"
        for name, title in CARD_METRICS.items()
        if name in metrics
    ]
    lines = [
        *_front_matter(metrics, onnx=onnx, license_id=license_id),
        f"# {spec.title}: {len(classifier.classes)} classes",
        "",
        "Trained with SynthGrid. Classes: " + ", ".join(classifier.classes) + ".",
        "",
        "## Training",
        "",
        *_made_from(classifier, metrics),
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
        *_use(classifier, onnx=onnx),
        "",
    ]
    return "\n".join(lines)


def _front_matter(metrics: Mapping[str, Any], *, onnx: bool, license_id: str | None) -> list[str]:
    """Nothing that is not known: no licence unless somebody named it."""
    named = [name for name in CARD_METRICS if name in metrics]
    return [
        "---",
        *([f"license: {yaml_text(license_id)}"] if license_id else []),
        "library_name: synthgrid",
        "pipeline_tag: image-classification",
        "tags:",
        "- image-classification",
        "- synthgrid",
        "- safetensors",
        *(["- onnx"] if onnx else []),
        *(["metrics:", *(f"- {name}" for name in named)] if named else []),
        "---",
    ]


def _made_from(classifier: Classifier, metrics: Mapping[str, Any]) -> list[str]:
    details = classifier.details
    made = [
        f"- {metrics.get('real_images', '?')} real and {metrics.get('synthetic_images', '?')} "
        f"synthetic training images, {metrics.get('validation_images', '?')} real ones held out to "
        "choose the checkpoint.",
        f"- Data fingerprint {details.get('data_fingerprint', '?')}, seed "
        f"{details.get('seed', '?')}, run {classifier.name}.",
    ]
    if model_spec(classifier.model).pretrained:
        made.append(f"- Started from the weights: {details.get('weights', '?')}.")
    return made


def _use(classifier: Classifier, *, onnx: bool) -> list[str]:
    size = classifier.image_size_px
    lines = ["## Use", "", "In this folder:", "", "```", "synthgrid predict . photo.jpg", "```", ""]
    if onnx:
        packages = "`pip install onnxruntime numpy pillow`"
        lines += [f"Or with ONNX Runtime, NumPy and Pillow alone ({packages}):", ""]
        lines += ["```python", _ONNX_CODE, "```", ""]
    files = "`model.json` and the metadata of `model.safetensors`"
    if onnx:
        files = "`model.json` and the metadata of `model.safetensors` and `model.onnx`"
    return [
        *lines,
        f"Input: {size} x {size} RGB pixels as 8-bit numbers, largest centred square of the image, "
        f"transparency on white; normalisation is inside. {files} have classes and preprocessing "
        "for machines.",
    ]
