"""Which thumbnails show the same picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainer.data.leaks.similarity import (
    WHOLE,
    Window,
    _chance_level,
    edge_correlation,
    find_matches,
    find_matches_within,
    hash_signs,
    proposed_pairs,
)


def picture(seed: int) -> Image.Image:
    """Blobs of many sizes, as detailed as a photograph: 96x96."""
    random = np.random.RandomState(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.randint(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                (96, 96), Image.Resampling.BICUBIC
            ),
            dtype=np.float64,
        )
        for side in (4, 7, 13, 24)
    ]
    return Image.fromarray(np.clip(sum(layers) / len(layers), 0, 255).astype(np.uint8))


def thumb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((32, 32), Image.Resampling.BOX).convert("L"))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [picture(seed) for seed in range(60)]


@pytest.fixture(scope="module")
def thumbs(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([thumb(each) for each in pictures])


def test_different_pictures_do_not_match(thumbs: np.ndarray) -> None:
    assert find_matches(thumbs[:30], thumbs[30:]) == []


def test_a_mirrored_picture_matches_and_is_said_to_be_mirrored(thumbs: np.ndarray) -> None:
    matches = find_matches(thumbs, thumbs[10:15, :, ::-1])
    assert [
        (each.first, each.second, each.mirrored)
        for each in sorted(matches, key=lambda each: each.second)
    ] == [(10 + row, row, True) for row in range(5)]


def test_a_crop_of_ninety_percent_matches_at_any_place(
    pictures: list[Image.Image], thumbs: np.ndarray
) -> None:
    random = np.random.RandomState(0)
    corners = random.randint(0, 11, (len(pictures), 2)).tolist()
    cropped = [
        each.crop((x, y, x + 86, y + 86)) for each, (x, y) in zip(pictures, corners, strict=True)
    ]
    matches = find_matches(thumbs, np.stack([thumb(each) for each in cropped]))
    assert all(each.first == each.second for each in matches)
    assert len(matches) >= 0.9 * len(pictures)


def test_either_side_may_be_the_crop(pictures: list[Image.Image], thumbs: np.ndarray) -> None:
    cropped = np.stack([thumb(each.crop((0, 0, 90, 90))) for each in pictures])
    pairs = {(row, row) for row in range(len(pictures))}
    assert {(each.first, each.second) for each in find_matches(cropped, thumbs)} == pairs
    assert {(each.first, each.second) for each in find_matches(thumbs, cropped)} == pairs


def test_within_a_set_each_pair_is_found_once_and_no_image_matches_itself(
    pictures: list[Image.Image], thumbs: np.ndarray
) -> None:
    crops = np.stack([thumb(each.crop((4, 0, 94, 90))) for each in pictures[:20]])
    whole = np.concatenate([thumbs, crops, thumbs[20:30, :, ::-1]])
    found = find_matches_within(whole)
    assert found == [each for each in find_matches(whole, whole) if each.first < each.second]
    assert {(each.first, each.second, each.mirrored) for each in found} == {
        *((row, 60 + row, False) for row in range(20)),
        *((20 + row, 80 + row, True) for row in range(10)),
    }


def test_images_without_detail_match_nothing_and_cost_nothing() -> None:
    blank = np.full((3000, 32, 32), 200, dtype=np.uint8)
    assert len(proposed_pairs(blank, blank)) == 0


def test_correlation_of_edges_is_one_with_itself_and_blind_to_brightness_and_contrast(
    thumbs: np.ndarray,
) -> None:
    dim = (thumbs * 0.5 + 40).astype(np.uint8)
    assert edge_correlation(thumbs, thumbs).min() > 0.999
    assert edge_correlation(thumbs, dim).min() > 0.97
    assert np.all(edge_correlation(np.zeros_like(thumbs), thumbs) == 0)


def test_a_hash_has_as_many_ones_as_the_median_leaves_and_depends_on_the_window(
    thumbs: np.ndarray,
) -> None:
    signs = hash_signs(thumbs, WHOLE)
    assert signs.shape == (60, 63)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert np.any(signs != hash_signs(thumbs, Window(0, 0, 30)))


def test_a_pair_that_is_drawn_often_counts_as_often(pictures: list[Image.Image]) -> None:
    thumbs = np.stack([thumb(each) for each in pictures[:7]])
    first, second = thumbs[:3], thumbs[3:]
    random = np.random.RandomState(0)
    rows, columns = np.append(random.randint(0, 3, 9), [0] * 20), np.zeros(29, dtype=int)
    columns[:9] = random.randint(0, 4, 9)
    one_by_one = np.arange(29)
    expected = _chance_level(first[rows], second[columns], one_by_one, one_by_one)
    assert _chance_level(first, second, rows, columns) == expected
