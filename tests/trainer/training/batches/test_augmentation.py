"""Augmentation: what moves, what changes colour, and from which numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as torchvision
from torch.nn import functional
from torchvision.transforms import InterpolationMode

from trainer.training.batches.augmentation import (
    CHANGES,
    _crops,
    _gather,
    _geometry,
    _recolour,
    _warped,
    augment,
)


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


@pytest.mark.parametrize("kind", ["standard", "crop", "trivial", "rand"])
def test_every_kind_draws_the_same_from_the_same_generator_and_varies_from_image_to_image(
    kind: str,
) -> None:
    images = picture().expand(40, -1, -1, -1)
    found, again = (augment(images, torch.Generator().manual_seed(0), kind=kind) for _ in range(2))
    assert found.shape == images.shape
    assert torch.equal(found, again)
    assert len({row.contiguous().numpy().tobytes() for row in found}) > 30
    assert found.min() >= 0
    assert found.max() <= 255.001


@pytest.mark.parametrize("kind", ["standard", "crop", "trivial", "rand"])
def test_without_mirror_left_stays_left(kind: str) -> None:
    """The left half is red and the right half blue; no change of colour swaps the two."""
    images = torch.zeros(300, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, :, :16] = 200
    images[:, 2, :, 16:] = 200

    def red_on_the_left(mirror: bool) -> float:
        found = augment(images, torch.Generator().manual_seed(0), kind=kind, mirror=mirror).float()
        redness = found[:, 0] - found[:, 2]
        left, right = redness[..., :16].mean(dim=(1, 2)), redness[..., 16:].mean(dim=(1, 2))
        changed = (left - right).abs() > 20  # solarized ones may lose their colour
        return float((left > right)[changed].float().mean())

    assert red_on_the_left(mirror=True) == pytest.approx(0.5, abs=0.12)
    assert red_on_the_left(mirror=False) > 0.85


def test_a_crop_keeps_between_a_third_and_all_of_the_area_and_never_looks_outside() -> None:
    maps = _crops(2000, torch.Generator().manual_seed(0), mirror=True)
    width, height = maps[:, 0, 0].abs(), maps[:, 1, 1]
    assert (width * height).min() >= 0.3
    assert (width * height).max() > 0.9
    for size, place in ((width, maps[:, 0, 2]), (height, maps[:, 1, 2])):
        assert (size + place.abs()).max() <= 1 + 1e-6
    aspect = width / height
    assert aspect.min() >= 3 / 4 - 1e-6
    assert aspect.max() <= 4 / 3 + 1e-6


def drawn(change: str, strength: float, sign: float = 1.0) -> torch.Tensor:
    """A picture after one change at one strength."""
    index = torch.tensor([CHANGES.index(change)])
    amount = torch.tensor([strength])
    found = _warped(picture(), torch.eye(3)[None] @ _geometry(index, amount * sign))
    _recolour(found, index, amount, torch.tensor([sign]))
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_has_no_strength_changes_an_image_at_strength_zero(change: str) -> None:
    plain = picture().float()
    same = torch.allclose(drawn(change, 0.0), plain, atol=0.01)
    assert same == (change not in ("equalize", "autocontrast"))
    assert torch.allclose(drawn(change, 1.0), plain, atol=1) == (change == "identity")


@pytest.mark.parametrize(
    ("change", "oracle"),
    [
        ("brightness", lambda image: torchvision.adjust_brightness(image, 1.9)),
        ("colour", lambda image: torchvision.adjust_saturation(image, 1.9)),
        ("sharpness", lambda image: torchvision.adjust_sharpness(image, 1.9)),
        ("posterize", lambda image: torchvision.posterize(image, 4)),
        ("solarize", lambda image: torchvision.solarize(image, 0)),
        ("autocontrast", torchvision.autocontrast),
        ("equalize", torchvision.equalize),
    ],
)
def test_changes_of_colour_are_those_of_torchvision(
    change: str, oracle: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    expected = oracle(picture()).float()
    assert (drawn(change, 1.0) - expected).abs().max() <= 2


def test_contrast_moves_away_from_the_mean_grey_and_back_to_it() -> None:
    plain = picture().float()
    assert drawn("contrast", 1.0).std() > plain.std()
    assert drawn("contrast", 1.0, -1.0).std() < 0.2 * plain.std()


def test_geometry_is_that_of_torchvision_in_the_middle_of_the_picture() -> None:
    smooth = torch.linspace(0, 255, 64).expand(1, 3, 64, 64).to(torch.uint8)
    index, full = torch.tensor([CHANGES.index("rotate")]), torch.tensor([1.0])
    found = _warped(smooth, _geometry(index, full))
    turned = torchvision.rotate(smooth.float(), 30.0, interpolation=InterpolationMode.BILINEAR)
    assert (found - turned)[..., 16:48, 16:48].abs().max() < 3
