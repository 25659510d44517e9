"""Standard augmentation: each image moved a little, half of them mirrored."""

from __future__ import annotations

import torch

_SHIFT_SHARE = 8  # an image moves by up to 1/8 of its side


def augment(pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each image moved by up to 1/8 of its side, edges repeated, and half of them mirrored: uint8
    [N,3,S,S].

    Random numbers come from `generator`, or torch's global random state, on the CPU: the same for
    any device.
    """
    count, side = pixels.shape[0], pixels.shape[-1]
    reach, places = side // _SHIFT_SHARE, torch.arange(side)
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = (tops[:, None] - reach + places).clamp(0, side - 1)
    columns = (lefts[:, None] - reach + places).clamp(0, side - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return _gather(
        pixels.permute(0, 2, 3, 1), rows.to(pixels.device), columns.to(pixels.device)
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
