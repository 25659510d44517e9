"""Random changes to training images, a whole batch at a time, on the device that trains.

    standard   moved by up to 1/8 of the side, and half of the images mirrored
    crop       a random part of the image, enlarged, and half of the images mirrored
    trivial    standard, and one random change of geometry or colour per image
    rand       standard, and two random changes per image, all of one strength

Moves and geometry are one affine map, so that pixels are interpolated once; the changes of colour
run on the images that drew them. Random numbers come from a generator on the CPU, or torch's global
one: the same for any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional
from torchvision.transforms.v2.functional import equalize

from trainer.training.compute import sent

_SHIFT_SHARE = 8  # an image moves by up to 1/8 of its side
# The part of the image's area that a crop keeps, and its width over its height. Szegedy et al. 2015
# take from 8% on; training from so few images wants to see most of the object: our choice.
_CROP_AREA, _CROP_ASPECT = (0.35, 1.0), (3 / 4, 4 / 3)
# The ranges of RandAugment (Cubuk et al. 2020), which TrivialAugment (Mueller and Hutter 2021) also
# offers; its wide ones turn a 6 into a 9.
_ROTATE_DEGREES, _SHEAR, _TRANSLATE, _ENHANCE = 30.0, 0.3, 10 / 32, 0.9
_GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_ENHANCING = ("brightness", "colour", "contrast", "sharpness")
_COLOUR = (*_ENHANCING, "posterize", "solarize", "autocontrast", "equalize")
CHANGES = ("identity", *_GEOMETRY, *_COLOUR)
_RAND_CHANGES, _RAND_STRENGTH = 2, 9 / 30  # RandAugment's N and M where nothing was tuned

Generator = torch.Generator | None


def augment(
    pixels: torch.Tensor,
    generator: Generator = None,
    *,
    kind: str = "standard",
    mirror: bool = True,
) -> torch.Tensor:
    """uint8 [N,3,S,S] changed at random: uint8 for "standard", else float32 in 0..255.

    `mirror` is False where a mirrored image means something else, as with digits and letters.
    """
    if kind == "standard":
        return _moved(pixels, generator, mirror=mirror)
    count, rounds = len(pixels), {"crop": 0, "trivial": 1, "rand": _RAND_CHANGES}[kind]
    start = _crops if kind == "crop" else _moves
    maps = start(count, generator, mirror=mirror)
    drawn = torch.randint(0, len(CHANGES), (rounds, count), generator=generator)
    strengths = torch.rand(rounds, count, generator=generator)
    if kind == "rand":
        strengths = torch.full_like(strengths, _RAND_STRENGTH)
    signs = torch.randint(0, 2, (rounds, count), generator=generator) * 2.0 - 1.0
    for change, strength, sign in zip(drawn, strengths, signs, strict=True):
        maps = maps @ _geometry(change, strength * sign)
    found = _warped(pixels, maps)
    for change, strength, sign in zip(drawn, strengths, signs, strict=True):
        _recolour(found, change, strength, sign)
    return found


def _moved(pixels: torch.Tensor, generator: Generator, *, mirror: bool) -> torch.Tensor:
    """Each image moved by up to 1/8 of its side, edges repeated, and half of them mirrored."""
    count, side = pixels.shape[0], pixels.shape[-1]
    reach, places = side // _SHIFT_SHARE, torch.arange(side)
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if mirror else 0.0)
    rows = (tops[:, None] - reach + places).clamp(0, side - 1)
    columns = (lefts[:, None] - reach + places).clamp(0, side - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return _gather(
        pixels.permute(0, 2, 3, 1), sent(rows, pixels.device), sent(columns, pixels.device)
    ).permute(0, 3, 1, 2)


def _gather(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """These rows and columns of each image: [N,S,S,3], int64 [N,S], int64 [N,S]."""
    if images.device.type != "cpu":  # one kernel; on a CPU, copying whole rows is 3 times as fast
        return images[
            torch.arange(len(images), device=images.device)[:, None, None],
            rows[:, :, None],
            columns[:, None],
        ]
    gathered = torch.empty(images.shape, dtype=images.dtype)
    for image, row, column, target in zip(images, rows, columns, gathered, strict=True):
        torch.index_select(image.index_select(0, row), 1, column, out=target)
    return gathered


def _crops(count: int, generator: Generator, *, mirror: bool) -> torch.Tensor:
    """Affine maps [count,3,3] from places in the result to places in the image, both in -1..1: a
    random crop, and half of them mirrored."""
    area, aspect, across, down, turn = torch.rand(5, count, generator=generator)
    area = _CROP_AREA[0] + area * (_CROP_AREA[1] - _CROP_AREA[0])
    low, high = math.log(_CROP_ASPECT[0]), math.log(_CROP_ASPECT[1])
    stretch = (low + aspect * (high - low)).exp().sqrt()
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    maps = torch.zeros(count, 3, 3)
    maps[:, 0, 0] = torch.where(turn < (0.5 if mirror else 0.0), -width, width)
    maps[:, 1, 1], maps[:, 2, 2] = height, 1.0
    maps[:, 0, 2] = (2 * across - 1) * (1 - width)
    maps[:, 1, 2] = (2 * down - 1) * (1 - height)
    return maps


def _moves(count: int, generator: Generator, *, mirror: bool) -> torch.Tensor:
    """Affine maps as those of `_crops`: a move by up to 1/8 of the side, and half mirrored."""
    across, down, turn = torch.rand(3, count, generator=generator)
    reach = 2 / _SHIFT_SHARE
    maps = torch.eye(3).repeat(count, 1, 1)
    maps[:, 0, 0] = torch.where(turn < (0.5 if mirror else 0.0), -1.0, 1.0)
    maps[:, 0, 2], maps[:, 1, 2] = (2 * across - 1) * reach, (2 * down - 1) * reach
    return maps


def _geometry(change: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Affine maps [N,3,3] of changes, int64 [N], at strengths of -1..1; the identity for one of
    colour."""
    maps = torch.eye(3).repeat(len(change), 1, 1)

    def of(name: str, most: float) -> torch.Tensor:
        return torch.where(change == CHANGES.index(name), strength * most, torch.zeros(()))

    angle = of("rotate", math.radians(_ROTATE_DEGREES))
    maps[:, 0, 0], maps[:, 1, 1] = angle.cos(), angle.cos()
    maps[:, 0, 1] = of("shear_x", _SHEAR) - angle.sin()
    maps[:, 1, 0] = of("shear_y", _SHEAR) + angle.sin()
    maps[:, 0, 2] = of("translate_x", 2 * _TRANSLATE)
    maps[:, 1, 2] = of("translate_y", 2 * _TRANSLATE)
    return maps


def _warped(pixels: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The images seen through affine maps [N,3,3], edges repeated: float32."""
    grid = functional.affine_grid(sent(maps[:, :2], pixels.device), list(pixels.shape), False)
    return functional.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _recolour(
    images: torch.Tensor, change: torch.Tensor, strength: torch.Tensor, sign: torch.Tensor
) -> None:
    """Applies the changes of colour in place: [N,3,S,S] in 0..255, int64 [N], 0..1 [N], +-1 [N]."""
    for name in _COLOUR:
        chosen = (change == CHANGES.index(name)).nonzero().flatten()
        if len(chosen):
            amounts = strength[chosen] * (sign[chosen] if name in _ENHANCING else 1.0)
            place = sent(chosen, images.device)
            amounts = sent(amounts, images.device).view(-1, 1, 1, 1)
            images[place] = _COLOURING[name](images[place], amounts)


def _blended(images: torch.Tensor, other: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """From `other` at -1 through `images` at 0 to as far beyond, in 0..255."""
    return (other + (images - other) * (1 + _ENHANCE * amounts)).clamp(0, 255)


def _grey(images: torch.Tensor) -> torch.Tensor:
    weights = sent(torch.tensor([0.299, 0.587, 0.114]), images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """Each pixel averaged with its eight neighbours, itself five times; the rim is unchanged."""
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    found = images.clone()
    found[..., 1:-1, 1:-1] = functional.conv2d(images, kernel / 13, groups=3)
    return found


def _brightness(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return _blended(images, torch.zeros_like(images), amounts)


def _colour(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return _blended(images, _grey(images), amounts)


def _contrast(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return _blended(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), amounts)


def _sharpness(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return _blended(images, _blurred(images), amounts)


def _posterize(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Fewer levels: 8 bits down to 4."""
    step = 2.0 ** (4 * amounts).round()
    return (images / step).floor() * step


def _solarize(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Negative from a threshold on, which falls from 255 to 0."""
    return torch.where(images >= 255 * (1 - amounts), 255 - images, images)


def _autocontrast(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Each channel stretched to 0..255; one of a single value is unchanged."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = (images - low) * (255 / (high - low).clamp(min=1e-6))
    return torch.where(high > low, stretched, images)


def _equalize(images: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    return equalize(images.round().to(torch.uint8)).float()


_COLOURING: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
