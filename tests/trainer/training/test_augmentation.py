"""Standard augmentation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trainer.training.augmentation import _gather, augment


def picture(side: int = 32) -> torch.Tensor:
    return torch.arange(3 * side * side).remainder(251).to(torch.uint8).view(1, 3, side, side)


@pytest.mark.parametrize("seed", range(6))
def test_an_image_is_moved_by_up_to_an_eighth_with_its_edges_repeated_and_may_be_mirrored(
    seed: int,
) -> None:
    image = picture()
    found = augment(image, torch.Generator().manual_seed(seed))
    padded = functional.pad(image.float(), (4,) * 4, mode="replicate").to(torch.uint8)
    places = [
        padded[:, :, top : top + 32, left : left + 32] for top in range(9) for left in range(9)
    ]
    assert any(torch.equal(found, place) or torch.equal(found, place.flip(-1)) for place in places)


def test_moves_and_mirrors_vary_from_image_to_image_and_the_same_generator_draws_the_same() -> None:
    images = picture().expand(40, -1, -1, -1)
    found, again = (augment(images, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(found, again)
    assert len({row.numpy().tobytes() for row in found}) > 30


def test_both_ways_to_gather_give_the_same() -> None:
    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    rows, columns = torch.randint(0, 8, (2, 3, 8))
    expected = torch.stack(
        [image[row][:, column] for image, row, column in zip(images, rows, columns, strict=True)]
    )
    assert torch.equal(_gather(images, rows, columns), expected)
    index = torch.arange(3)[:, None, None]
    assert torch.equal(images[index, rows[:, :, None], columns[:, None]], expected)
