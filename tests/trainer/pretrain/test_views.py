"""Which images a step draws, and how they are changed."""

from __future__ import annotations

import pytest
import torch

from trainer.pretrain.views import Changes, change, draw_rows, generator_at

GROUPS = ((0, 1, 2, 3), (4, 5, 6), (7,), (8, 9))
STILL = Changes(crop=1.0, mirror=False, jitter=0.0, grey=0.0, blur=0.0, rescale=0.0)


def pixels_of(count: int = 8, size_px: int = 32) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size_px, size_px), generator=random).to(torch.uint8)


def test_every_caption_is_drawn_once_before_any_returns() -> None:
    drawn = torch.cat(
        [draw_rows(GROUPS, step=step, seed=1, captions=2, each=2)[0] for step in range(4)]
    )
    group_of = {row: number for number, rows in enumerate(GROUPS) for row in rows}
    captions = [group_of[row] for row in drawn.tolist()]
    assert sorted(captions[:4]) == sorted(captions[4:]) == [0, 1, 2, 3]


def test_images_of_a_caption_are_drawn_without_replacement_as_far_as_they_go() -> None:
    rows = draw_rows(GROUPS, step=0, seed=1, captions=4, each=3)
    assert rows.shape == (3, 4)
    for column in rows.T.tolist():
        group = next(each for each in GROUPS if column[0] in each)
        assert set(column) <= set(group)
        assert len(set(column)) == min(3, len(group))


def test_a_step_draws_the_same_whatever_was_drawn_before_it() -> None:
    for step in (7, 2, 7):
        found = draw_rows(GROUPS, step=step, seed=1, captions=3, each=2)
        assert torch.equal(found, draw_rows(GROUPS, step=step, seed=1, captions=3, each=2))
    other = [draw_rows(GROUPS, step=step, seed=1, captions=3, each=2) for step in range(4)]
    assert not all(torch.equal(other[0], each) for each in other[1:])


def test_each_pass_has_its_own_order_and_draws_other_images() -> None:
    groups = tuple(tuple(range(10 * number, 10 * number + 10)) for number in range(6))
    passes = [
        draw_rows(groups, step=step, seed=1, captions=6, each=2)[0].tolist() for step in range(3)
    ]
    assert len({tuple(row // 10 for row in each) for each in passes}) == 3
    assert len({frozenset(each) for each in passes}) == 3
    images = [tuple(row % 10 for row in each) for each in passes]
    assert len(set(images)) == 3


def test_changes_follow_from_the_generator_alone() -> None:
    one, again = (change(pixels_of(), Changes(), generator_at(3, "views", 5)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, change(pixels_of(), Changes(), generator_at(3, "views", 6)))


def test_with_nothing_to_change_the_image_is_what_it_was() -> None:
    found = change(pixels_of(), STILL, generator_at(0, "views", 0))
    # A crop of the whole area is at most a little narrower than the image in one direction.
    assert found.shape == (8, 3, 32, 32)
    grey = change(pixels_of(), Changes(1.0, False, 0, 1.0, 0, 0), generator_at(0, "views", 0))
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert not torch.equal(found[:, 0], found[:, 2])


@pytest.mark.parametrize(
    "one", [{"crop": 0.08}, {"mirror": True}, {"jitter": 1.0}, {"blur": 1.0}, {"rescale": 1.0}]
)
def test_each_change_changes_something_and_stays_within_0_and_1(one: dict[str, float]) -> None:
    settings = {**vars(STILL), **one}
    pixels = pixels_of(size_px=96)
    still = change(pixels, STILL, generator_at(0, "views", 0))
    found = change(pixels, Changes(**settings), generator_at(0, "views", 0))
    assert float((found - still).abs().max()) > 0.01
    assert -1e-5 <= float(found.min()) <= float(found.max()) <= 1.00001


def test_colours_turn_but_grey_stays_grey() -> None:
    grey = torch.full((4, 3, 32, 32), 120, dtype=torch.uint8)
    found = change(grey, Changes(1.0, False, 1.0, 0.0, 0.0, 0.0), generator_at(0, "views", 0))
    # The three matrices of YIQ are rounded to four places.
    assert float((found.amax(dim=1) - found.amin(dim=1)).max()) < 2e-3
