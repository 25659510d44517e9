"""What images are judged by: networks that turn pixels into features.

    lite0               EfficientNet-Lite0 with the ImageNet weights of a Python package
    torchvision:NAME    a torchvision model with its published weights, such as torchvision:resnet50
    timm:NAME           a timm model with its published weights
    open_clip:NAME      a CLIP image tower, NAME/PRETRAINED (extra [clip]); knows words, too
    cnn                 a small CNN trained on half of the user's real images
    pixels              the pixels themselves

To add one: a prefix here and a function that makes an Embedder.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from trainer.data.samples import Sample
from trainer.errors import ConfigError
from trainer.models.backbone import Backbone
from trainer.models.registry import FROZEN, LITE0, MODELS, TIMM, default_models, model_spec
from trainer.models.weights import find_weights
from trainer.quality.embedding.embedder import CNN, Embedder
from trainer.quality.embedding.trained import trained_embedder

PIXELS, TORCHVISION, OPEN_CLIP = "pixels", "torchvision", "open_clip"
_PIXELS_PX = 16
_DEFAULT_CLIP = "ViT-B-32/laion2b_s34b_b79k"


def default_embedder() -> str:
    """lite0 where its weights are installed, else torchvision:resnet50."""
    return LITE0 if LITE0 in default_models() else f"{TORCHVISION}:resnet50"


def load_embedder(
    name: str,
    *,
    weights: Path | None = None,
    device: torch.device | None = None,
    real: Sequence[Sample] = (),
) -> Embedder:
    """The embedder of that name; `weights` is a file to take instead of the published one, `real`
    what "cnn" is trained on.

    Raises:
        ConfigError: the name is unknown, or a package that it needs is not installed.
        DataError: there are too few real images to train one on.
        WeightsError: the weights are not at hand, or do not fit.
    """
    device = device or torch.device("cpu")
    kind, _, rest = name.partition(":")
    if name == PIXELS:
        return _pixels()
    if name == CNN:
        return trained_embedder(real, device=device)
    if kind == OPEN_CLIP:
        return _open_clip(rest or _DEFAULT_CLIP, weights, device)
    if kind == TORCHVISION and rest in MODELS:
        return _backbone(name, f"{rest}:{FROZEN}", weights, device)
    if name == LITE0 or (kind == TIMM and rest):
        return _backbone(name, f"{name}:{FROZEN}", weights, device)
    raise ConfigError(
        f"embedder '{name}' is unknown; choose from {LITE0}, {CNN}, {PIXELS}, {TORCHVISION}:NAME, "
        f"{TIMM}:NAME and {OPEN_CLIP}:NAME"
    )


def _backbone(name: str, model: str, given: Path | None, device: torch.device) -> Embedder:
    spec = model_spec(model)
    weights = find_weights(spec.name, given=given, allow_untrained=False)
    backbone = Backbone(spec.name, weights, device=device)
    fingerprint = _short_hash(f"{spec.name} {weights.fingerprint}")
    return Embedder(name, spec.image_size_px, fingerprint, weights.source, backbone)


def _pixels() -> Embedder:
    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().flatten(1) / 255.0

    return Embedder(PIXELS, _PIXELS_PX, _short_hash(f"{PIXELS} {_PIXELS_PX}"), "", embed)


def _open_clip(name: str, given: Path | None, device: torch.device) -> Embedder:
    if importlib.util.find_spec("open_clip") is None:
        raise ConfigError(
            f"embedder '{OPEN_CLIP}:{name}' needs open_clip: python -m pip install "
            "'synthgrid[clip]'"
        )
    import open_clip

    architecture, _, pretrained = name.partition("/")
    source = str(given) if given is not None else pretrained
    if architecture not in open_clip.list_models() or not source:
        raise ConfigError(
            f"embedder '{OPEN_CLIP}:{name}' is unknown; write {OPEN_CLIP}:ARCHITECTURE/PRETRAINED, "
            f"such as {OPEN_CLIP}:{_DEFAULT_CLIP}"
        )
    model = open_clip.create_model(architecture, pretrained=source, device=device).eval()
    return clip_embedder(f"{OPEN_CLIP}:{name}", model, open_clip.get_tokenizer(architecture))


def clip_embedder(name: str, model: Any, tokenize: Callable[[list[str]], torch.Tensor]) -> Embedder:
    """An embedder from a CLIP as open_clip builds it: `encode_image`, `encode_text`, and the image
    tower's size, mean and std under `visual`."""
    visual = model.visual
    size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    device = next(model.parameters()).device
    mean, std = (
        torch.tensor(each, device=device).view(3, 1, 1)
        for each in (visual.image_mean, visual.image_std)
    )

    @torch.inference_mode()
    def embed(pixels: torch.Tensor) -> torch.Tensor:
        scaled = (pixels.to(device).float() / 255.0 - mean) / std
        return functional.normalize(model.encode_image(scaled).float(), dim=1).cpu()

    @torch.inference_mode()
    def classify_words(features: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        words = model.encode_text(tokenize(list(texts)).to(device)).float().cpu()
        return functional.normalize(features, dim=1) @ functional.normalize(words, dim=1).T

    digest = hashlib.sha256(name.encode())
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.detach().cpu().float().numpy().tobytes())
    return Embedder(name, size, digest.hexdigest()[:16], name, embed, classify_words)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
