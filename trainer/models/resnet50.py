"""ResNet50 from torchvision; its pretrained weights are trainer.weights' business."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet50


def build_resnet50(num_classes: int) -> nn.Module:
    """A ResNet50 with random weights and a fully connected layer `fc` of 2048 to `num_classes`."""
    network: nn.Module = resnet50(weights=None, num_classes=num_classes)
    return network
