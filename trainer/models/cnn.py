"""The grid's small CNN: five convolution and max-pool blocks, dropout, a fully connected layer.

L2 regularisation is done by the optimiser (TrainingConfig.weight_decay). Widths and normalisation
are our choice: the paper only asks for at least five blocks.
"""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (16, 32, 64, 96, 128)
DROPOUT = 0.3


class SmallCNN(nn.Module):
    """[N,3,H,W], both sides at least 32, to [N,num_classes] logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        blocks = [
            _block(before, after) for before, after in zip((3, *WIDTHS), WIDTHS, strict=False)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        # A plain mean: adaptive pooling has no deterministic backward pass on CUDA.
        features = self.blocks(pixels).mean(dim=(2, 3))
        return self.fc(self.dropout(features))


def build_cnn(num_classes: int, image_size_px: int) -> nn.Module:
    """A SmallCNN with torch's default initialisation, for images of any size."""
    return SmallCNN(num_classes)


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
