"""What is trained: a backbone without its last layer, and the projector that is thrown away."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from trainer.pretrain.config import STABLEREP_PLUS, SUPERVISED, PretrainConfig
from trainer.pretrain.text import Alignment


class Projector(nn.Module):
    """Linear layers to `width`, `width` and `out`, with batch normalisation and ReLU after the
    first two (StableRep, appendix). [views x N, D], a view after the other, to [views x N, out]."""

    def __init__(self, features: int, width: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, out),
        )

    def forward(self, features: torch.Tensor, views: int) -> torch.Tensor:
        """Each view is normalised by its own statistics."""
        return torch.cat([self.layers(view) for view in features.chunk(views)])


class Classifier(nn.Linear):
    """What supervised training has in the projector's place: [N, D] to logits [N, classes]."""

    def forward(self, features: torch.Tensor, views: int = 1) -> torch.Tensor:
        """Views are of no concern to it."""
        return super().forward(features)


class Outputs(NamedTuple):
    """`projected` [views x N, out]. With stablerep+ also `images` [views x N, W] and `texts`
    [N, W], which are compared with each other, and the `scale` of their logits, a number."""

    projected: torch.Tensor
    images: torch.Tensor | None = None
    texts: torch.Tensor | None = None
    scale: torch.Tensor | None = None


class Learner(nn.Module):
    """uint8-like pixels in 0..1 [views x N,3,S,S] to Outputs. `classes` is what supervised training
    tells apart."""

    def __init__(self, config: PretrainConfig, classes: int = 0) -> None:
        super().__init__()
        spec = config.spec
        self.backbone = spec.build(2, image_size_px=config.image_size_px)
        parent, _, last = spec.head.rpartition(".")
        setattr(self.backbone.get_submodule(parent), last, nn.Identity())
        self.projector = (
            Classifier(spec.feature_dim, classes)
            if config.method == SUPERVISED
            else Projector(spec.feature_dim, config.width, config.out)
        )
        self.alignment = (
            Alignment(spec.feature_dim, config.text_width, config.text_layers)
            if config.method == STABLEREP_PLUS
            else None
        )
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """[N,3,S,S] in 0..1 to [N,D]."""
        found: torch.Tensor = self.backbone((pixels - self.mean) / self.std)
        return found

    def forward(
        self, pixels: torch.Tensor, views: int, words: torch.Tensor | None = None
    ) -> Outputs:
        """`words` [N, up to 77] are the captions' numbers, for stablerep+ only."""
        features = self.features(pixels)
        projected = self.projector(features, views)
        if self.alignment is None:
            return Outputs(projected)
        texts = self.alignment.tower(words)
        scale = self.alignment.log_scale.exp()
        return Outputs(projected, self.alignment.image(features), texts, scale)

    def train(self, mode: bool = True) -> Learner:
        """Training mode, but without dropout: what it would hide, the changed views hide already
        (our choice; the paper's networks have none)."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        return self


def new_optimiser(learner: Learner, config: PretrainConfig) -> torch.optim.AdamW:
    """AdamW with betas 0.9 and 0.98; biases and normalisation do not decay."""
    groups = [
        {
            "params": [each for each in learner.parameters() if (each.ndim > 1) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98))
