"""Which images a step draws and how they are changed: both follow from seed and step alone, so that
a run may stop anywhere and go on to the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

_REFERENCE_PX = 224  # the side of the images for which the paper gives its figures
_GREY = (0.299, 0.587, 0.114)
_HUE = 0.1
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Changes:
    """How views are made. The defaults are StableRep's; `crop` is the smallest share of the area
    that a crop keeps."""

    crop: float = 0.08
    mirror: bool = True
    jitter: float = 0.8
    grey: float = 0.2
    blur: float = 0.5
    rescale: float = 0.05


def generator_at(seed: int, purpose: str, count: int) -> torch.Generator:
    """Random numbers of their own for the `count`-th time that `purpose` needs some."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{count}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def draw_rows(
    groups: Sequence[Sequence[int]], *, step: int, seed: int, captions: int, each: int
) -> torch.Tensor:
    """The rows of `step`, int64 [each, captions]: `each` images of every caption, one view a line.

    All captions are used once, in a new order every time, before any returns; where one such pass
    ends inside a step, that step may hold a caption twice. Images are drawn without replacement; a
    caption with fewer than `each` gives the same ones again, which are then changed otherwise.
    """
    random = generator_at(seed, "images", step)
    orders: dict[int, list[int]] = {}
    columns = []
    for position in range(step * captions, (step + 1) * captions):
        turn, place = divmod(position, len(groups))
        if turn not in orders:
            order = torch.randperm(len(groups), generator=generator_at(seed, "captions", turn))
            orders[turn] = order.tolist()
        rows = groups[orders[turn][place]]
        drawn = torch.randperm(len(rows), generator=random)
        columns.append([rows[int(drawn[view % len(rows)])] for view in range(each)])
    return torch.tensor(columns).T.contiguous()


class _Random:
    """Random numbers for some images of a batch: drawn for all of them, so that an image is changed
    alike whoever changes the others."""

    def __init__(self, generator: torch.Generator, count: int, part: torch.Tensor | None) -> None:
        self.generator, self.count, self.part = generator, count, part

    def uniform(self, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """One number per image."""
        drawn = torch.rand(self.count, generator=self.generator) * (high - low) + low
        return drawn if self.part is None else drawn[self.part]


def change(
    pixels: torch.Tensor,
    changes: Changes,
    generator: torch.Generator,
    *,
    part: torch.Tensor | None = None,
    of: int = 0,
) -> torch.Tensor:
    """Changed copies: uint8 [N,3,S,S] to float32 in 0..1, same shape, on the same device.

    Where the pixels are only a `part` of a batch, int64 [N] places among `of` images, they are
    changed as they would be in the whole batch.

    In this order: down to 64 or 128 of 224 px and up again, a crop, mirrored or not, colours, grey,
    blur. Sizes in pixels shrink with the image, and brightness, contrast, saturation and hue always
    come in this order (our choices; the paper works at 224 px and leaves the order to its library).
    """
    random = _Random(generator, len(pixels) if part is None else of, part)
    views = pixels.float() / 255.0
    views = _rescaled(views, changes, random)
    views = _cropped(views, changes, random)
    views = _jittered(views, changes, random)
    weights = torch.tensor(_GREY, device=views.device).view(1, 3, 1, 1)
    grey = (views * weights).sum(dim=1, keepdim=True).expand_as(views)
    views = torch.where(_chosen(views, changes.grey, random), grey, views)
    return _blurred(views, changes, random)


def _chosen(views: torch.Tensor, share: float, random: _Random) -> torch.Tensor:
    picked = random.uniform() < share
    return picked.view(-1, 1, 1, 1).to(views.device)


def _rescaled(views: torch.Tensor, changes: Changes, random: _Random) -> torch.Tensor:
    size_px = views.shape[-1]
    picked = random.uniform() < changes.rescale
    larger = random.uniform() < 0.5
    for side, rows in ((64, picked & ~larger), (128, picked & larger)):
        where = rows.nonzero()[:, 0].to(views.device)
        if len(where):
            small_px = max(1, round(size_px * side / _REFERENCE_PX))
            small = functional.interpolate(
                views[where], size=(small_px, small_px), mode="bilinear", antialias=True
            )
            large = functional.interpolate(small, size=(size_px, size_px), mode="bilinear")
            views = views.index_copy(0, where, large)
    return views


def _cropped(views: torch.Tensor, changes: Changes, random: _Random) -> torch.Tensor:
    """A random crop, as wide as high times 3:4 to 4:3, brought back to the full size."""
    count = len(views)
    area = random.uniform(changes.crop, 1.0)
    ratio = torch.exp(random.uniform(-0.28768, 0.28768))  # log(4/3)
    width = (area * ratio).sqrt().clamp(max=1.0)
    height = (area / ratio).sqrt().clamp(max=1.0)
    x = random.uniform(-1.0, 1.0) * (1 - width)
    y = random.uniform(-1.0, 1.0) * (1 - height)
    mirrored = (random.uniform() < 0.5) & torch.tensor(changes.mirror)
    sign = torch.where(mirrored, -1.0, 1.0)
    none = torch.zeros(count)
    matrix = torch.stack([width * sign, none, x, none, height, y], dim=1).view(count, 2, 3)
    places = functional.affine_grid(matrix, list(views.shape), align_corners=False)
    return functional.grid_sample(
        views, places.to(views.device), padding_mode="border", align_corners=False
    )


def _jittered(views: torch.Tensor, changes: Changes, random: _Random) -> torch.Tensor:
    """Brightness, contrast and saturation by up to 0.4, hue by up to a tenth of a turn."""
    device = views.device
    picked = _chosen(views, changes.jitter, random)
    bright, contrast, colour = (
        random.uniform(0.6, 1.4).view(-1, 1, 1, 1).to(device) for _ in range(3)
    )
    angle = random.uniform(-_HUE, _HUE) * 2 * torch.pi
    weights = torch.tensor(_GREY, device=device).view(1, 3, 1, 1)
    changed = (views * bright).clamp(0, 1)
    mean = (changed * weights).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    changed = (mean + (changed - mean) * contrast).clamp(0, 1)
    grey = (changed * weights).sum(dim=1, keepdim=True)
    changed = (grey + (changed - grey) * colour).clamp(0, 1)
    changed = torch.einsum("nij,njhw->nihw", _turns(angle).to(device), changed).clamp(0, 1)
    return torch.where(picked, changed, views)


def _turns(angle: torch.Tensor) -> torch.Tensor:
    """[N,3,3] matrices that turn the colour in the plane of equal brightness of YIQ."""
    to_yiq = torch.tensor(_TO_YIQ)
    turn = torch.eye(3).repeat(len(angle), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    turned: torch.Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return turned


def _blurred(views: torch.Tensor, changes: Changes, random: _Random) -> torch.Tensor:
    """A Gaussian with a standard deviation of 0.1 to 2 px of 224."""
    size_px = views.shape[-1]
    sigma = random.uniform(0.1, 2.0) * size_px / _REFERENCE_PX
    picked = random.uniform() < changes.blur
    where = picked.nonzero()[:, 0]
    if not len(where):
        return views
    reach = max(1, round(6 * size_px / _REFERENCE_PX))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma[where, None].clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    kernel, where = kernel.to(views.device), where.to(views.device)
    flat = views[where].reshape(1, -1, size_px, size_px)
    flat = functional.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=flat.shape[1])
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=flat.shape[1])
    return views.index_copy(0, where, flat.view(-1, 3, size_px, size_px))
