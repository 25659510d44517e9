"""Architectures from torchvision; trainer.models.weights handles their pretrained weights.

All take images at their given size, even 32x32: nothing is enlarged and no stem is changed, so a
ResNet reduces 32 pixels to a single position. (The smaller stem often used for CIFAR is a different
architecture.)
"""

from __future__ import annotations

from torch import nn
from torchvision import models


def build_resnet18(num_classes: int, image_size_px: int) -> nn.Module:
    """He et al. 2016; last layer `fc`."""
    return models.resnet18(weights=None, num_classes=num_classes)


def build_resnet34(num_classes: int, image_size_px: int) -> nn.Module:
    """He et al. 2016; last layer `fc`."""
    return models.resnet34(weights=None, num_classes=num_classes)


def build_resnet50(num_classes: int, image_size_px: int) -> nn.Module:
    """He et al. 2016, stride in the 3x3 convolution; last layer `fc`."""
    return models.resnet50(weights=None, num_classes=num_classes)


def build_vgg16(num_classes: int, image_size_px: int) -> nn.Module:
    """Simonyan and Zisserman 2015, no batch normalisation; last layer `classifier.6`."""
    return models.vgg16(weights=None, num_classes=num_classes)


def build_densenet121(num_classes: int, image_size_px: int) -> nn.Module:
    """Huang et al. 2017; last layer `classifier`."""
    return models.densenet121(weights=None, num_classes=num_classes)


def build_vit_b_16(num_classes: int, image_size_px: int) -> nn.Module:
    """Dosovitskiy et al. 2021; last layer `heads.head`. It is built for one image size, a multiple
    of 16."""
    return models.vit_b_16(weights=None, num_classes=num_classes, image_size=image_size_px)


def build_swin_t(num_classes: int, image_size_px: int) -> nn.Module:
    """Liu et al. 2021; last layer `head`."""
    return models.swin_t(weights=None, num_classes=num_classes)
