"""Which images an update takes: full batches cut from shuffles, or as many real ones in each."""

from __future__ import annotations

from collections.abc import Iterator

import torch

MIN_REAL = 16  # real images in a stratified batch; half of a smaller batch


def shuffled_batches(count: int, *, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless full batches of 0..count-1, cut from consecutive shuffles; a batch may span two of
    them."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(count, generator=generator)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def stratified_batches(
    is_real: torch.Tensor, *, batch_size: int, seed: int
) -> Iterator[torch.Tensor]:
    """Endless batches of the numbers of rows, real ones first, as many in each; both kinds are cut
    from shuffles of their own. `is_real` is bool [n], with rows of both kinds."""
    share = real_share(is_real, batch_size)
    kinds = [
        (rows, shuffled_batches(len(rows), batch_size=size, seed=seed))
        for rows, size in (
            (is_real.nonzero()[:, 0], share),
            ((~is_real).nonzero()[:, 0], batch_size - share),
        )
    ]
    while True:
        yield torch.cat([rows[next(batches)] for rows, batches in kinds])


def real_share(is_real: torch.Tensor, batch_size: int) -> int:
    """How many images of a batch of at least 4 are real: in proportion, but at least 16 (half a
    batch if that is less), without which the statistics of real images would be noise where
    synthetic ones are many, and at most all but two: our choice."""
    proportional = round(batch_size * float(is_real.double().mean()))
    least = min(MIN_REAL, batch_size // 2)
    return min(max(proportional, least), batch_size - 2)
