"""Leaks between the parts of a data set: planted ones are found, and nothing else is.

Covers: trainer.commands.leaks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from trainer.__main__ import main
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.leaks import search
from trainer.data.leaks.search import (
    Leaks,
    drop_leaks,
    files_under_two_labels,
    find_leaks,
    refuse_spoilt_test,
    remembered_leaks,
)
from trainer.data.sample_data import write_sample_data
from trainer.errors import DataError

LABELS = ("moss", "sand")


def photograph(seed: int, side: int = 128) -> Image.Image:
    random = np.random.RandomState(seed)
    coarse = [random.randint(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (3, 6, 12, 25)]
    layers = [
        np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC), float)
        for each in coarse
    ]
    return Image.fromarray(np.clip(sum(layers) / 4, 0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 6 training and 6 test images, and 6 of a generator; all different."""
    seed = 0
    for part in ("real/train", "real/test", "made"):
        for label in LABELS:
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(6):
                photograph(seed).save(tmp_path / part / label / f"{number}.png")
                seed += 1
    return tmp_path


def leaks_of(root: Path) -> Leaks:
    return find_leaks(load_dataset(root / "real", root / "made"))


def pairs(leaks: Leaks) -> set[tuple[str, str, str]]:
    return {
        (
            each.kind,
            f"{each.kept.part}/{each.kept.file}",
            f"{each.dropped.part}/{each.dropped.file}",
        )
        for each in leaks.found
    }


def test_different_images_do_not_leak(photos: Path) -> None:
    leaks = leaks_of(photos)
    assert leaks.found == ()
    assert leaks.checked == {"test": 12, "train": 12, "synthetic": 12, "more": 0}
    assert leaks.by_parts() == {"test-train": 0, "test-synthetic": 0, "train-synthetic": 0}


def test_each_kind_is_found_between_each_two_parts_and_across_classes(photos: Path) -> None:
    test, train, made = photos / "real/test", photos / "real/train", photos / "made"
    shutil.copy(test / "moss/0.png", train / "sand/copied.png")
    with Image.open(test / "moss/1.png") as image:
        image.save(made / "moss/again.bmp")
    with Image.open(train / "sand/2.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(made / "sand/turned.png")
    with Image.open(test / "sand/3.png") as image:
        ImageEnhance.Brightness(image.resize((80, 80))).enhance(1.2).save(
            train / "sand/small.jpg", quality=60
        )
    leaks = leaks_of(photos)
    assert pairs(leaks) == {
        ("bytes", "test/moss/0.png", "train/sand/copied.png"),
        ("pixels", "test/moss/1.png", "synthetic/moss/again.bmp"),
        ("near", "test/sand/3.png", "train/sand/small.jpg"),
        ("mirrored", "train/sand/2.png", "synthetic/sand/turned.png"),
    }
    assert leaks.counts() == {"bytes": 1, "pixels": 1, "near": 1, "mirrored": 1}
    assert leaks.test_images() == 3


def test_further_test_sets_are_searched_like_the_own_one(photos: Path) -> None:
    sketches = photos / "sketches"
    shutil.copytree(photos / "real/test", sketches)  # may share images with it, trained on is none
    shutil.copy(photos / "real/train/moss/0.png", sketches / "moss/leak.png")
    with Image.open(photos / "made/sand/1.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(sketches / "sand/turned.png")
    dataset = load_dataset(photos / "real", photos / "made", tests={"sketch": sketches})
    leaks = find_leaks(dataset)
    assert pairs(leaks) == {
        ("bytes", "test:sketch/moss/leak.png", "train/moss/0.png"),
        ("mirrored", "test:sketch/sand/turned.png", "synthetic/sand/1.png"),
    }
    assert leaks.by_parts()["test:sketch-train"] == 1
    assert leaks.test_images() == 2
    kept = drop_leaks(dataset, leaks)
    assert (len(kept.train), len(kept.synthetic), len(kept.tests["sketch"])) == (11, 11, 14)


def test_dropping_leaves_every_test_image_and_no_leak(photos: Path) -> None:
    test, train, made = photos / "real/test", photos / "real/train", photos / "made"
    shutil.copy(test / "moss/0.png", train / "moss/copied.png")
    shutil.copy(train / "sand/1.png", made / "sand/copied.png")
    dataset = load_dataset(photos / "real", made)
    clean = drop_leaks(dataset, find_leaks(dataset))
    assert clean.test == dataset.test
    assert {each.file for each in dataset.train} - {each.file for each in clean.train} == {
        "moss/copied.png"
    }
    assert {each.file for each in dataset.synthetic} - {each.file for each in clean.synthetic} == {
        "sand/copied.png"
    }
    assert find_leaks(clean).found == ()


def test_an_image_is_dropped_from_the_source_it_is_in_alone(photos: Path) -> None:
    """Two sources may have files of one name."""
    shutil.copytree(photos / "made", photos / "made2")
    for number, path in enumerate(sorted((photos / "made2").rglob("*.png"))):
        photograph(500 + number).save(path)
    shutil.copy(photos / "real/test/moss/0.png", photos / "made2/moss/0.png")
    dataset = load_dataset(photos / "real", {"syn1": photos / "made", "syn2": photos / "made2"})
    clean = drop_leaks(dataset, find_leaks(dataset))
    lost = set(dataset.synthetic) - set(clean.synthetic)
    assert [(each.source, each.file) for each in lost] == [("syn2", "moss/0.png")]


def test_what_is_stored_lists_the_surest_pairs_first_and_no_more_than_asked(photos: Path) -> None:
    for number in range(4):
        shutil.copy(
            photos / f"real/test/moss/{number}.png", photos / f"real/train/moss/copy{number}.png"
        )
    with Image.open(photos / "real/test/sand/0.png") as image:
        image.resize((90, 90)).save(photos / "real/train/sand/small.png")
    stored = json.loads(json.dumps(leaks_of(photos).to_dict(listed=3)))
    assert stored["total"] == 5
    assert [each["kind"] for each in stored["pairs"]] == ["bytes"] * 3
    assert stored["pairs"][0]["kept"] == {
        "part": "test",
        "source": "real",
        "file": "moss/0.png",
        "label": "moss",
    }
    assert stored["counts"]["near"] == 1
    assert stored["dropped"] is False


def test_drawings_that_look_alike_by_nature_are_not_called_leaks(tmp_path: Path) -> None:
    """Handwritten digits of 8x8 pixels: by the measure for photographs, 260 of these 300 test
    images would leak."""
    write_sample_data(tmp_path / "digits", train_per_class=30, test_per_class=30)
    leaks = find_leaks(load_dataset(tmp_path / "digits", None))
    assert leaks.alike
    assert leaks.test_images() <= 3


def test_the_command_lists_pairs_and_sums_up(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "real/test/moss/0.png", photos / "real/train/moss/copied.png")
    assert (
        main(["leaks", "--real", str(photos / "real"), "--synthetic", f"syn1={photos / 'made'}"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "bytes     0.000  test/moss/0.png  train/moss/copied.png" in shown
    assert (
        "1 leaks (1 bytes) among 12 test, 13 train, 12 synthetic images; 1 test images leak"
        in shown
    )
    assert main(["leaks", "--real", str(photos / "real"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 1


def test_an_image_that_cannot_be_read_is_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "real/train/moss/0.png").write_bytes(b"not an image")
    assert main(["leaks", "--real", str(photos / "real")]) == 1
    assert "0.png is not a whole image" in caplog.text


def test_training_on_the_test_images_is_refused_but_a_stray_copy_is_not(photos: Path) -> None:
    shutil.copy(photos / "real/test/moss/0.png", photos / "made/moss/stray.png")
    refuse_spoilt_test(load_dataset(photos / "real", photos / "made"))
    shutil.copy(photos / "real/test/moss/1.png", photos / "made/moss/second.png")
    with pytest.raises(DataError, match=r"2 of 12 test images are trained on.*--drop-leaks"):
        refuse_spoilt_test(load_dataset(photos / "real", photos / "made"))
    with pytest.raises(DataError, match="12 of 12 test images"):
        refuse_spoilt_test(load_dataset(photos / "real", photos / "real" / "test"))


def test_one_file_under_two_labels_is_found_wherever_it_is(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert files_under_two_labels(load_dataset(photos / "real", photos / "made")) == ()
    shutil.copy(photos / "real/train/moss/0.png", photos / "real/train/sand/again.png")
    shutil.copy(photos / "made/moss/0.png", photos / "made/sand/again.png")
    shutil.copy(photos / "made/moss/1.png", photos / "made/moss/again.png")  # the same label
    main(["leaks", "--real", str(photos / "real"), "--synthetic", str(photos / "made")])
    shown = capsys.readouterr().out
    assert "2 labels         train/moss/0.png  train/sand/again.png" in shown
    assert "2 labels         synthetic/moss/0.png  synthetic/sand/again.png" in shown
    assert "2 files occur under two labels" in shown


def test_two_sources_may_label_a_file_differently_as_a_control_with_shuffled_labels_does(
    photos: Path,
) -> None:
    shutil.copytree(photos / "made/moss", photos / "shuffled/sand")
    shutil.copytree(photos / "made/sand", photos / "shuffled/moss")
    sources = {"right": photos / "made", "wrong": photos / "shuffled"}
    assert files_under_two_labels(load_dataset(photos / "real", sources)) == ()


def test_a_search_is_remembered_until_an_image_changes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(photos / "real/train/moss/0.png", photos / "made/sand/copy.png")
    cache = photos / "grid" / "leaks.json"
    searched: list[int] = []

    def counting(dataset: Dataset) -> Leaks:
        searched.append(1)
        return find_leaks(dataset)

    monkeypatch.setattr(search, "find_leaks", counting)
    first, again = (
        remembered_leaks(load_dataset(photos / "real", photos / "made"), cache) for _ in range(2)
    )
    assert first == again
    assert first.found
    assert first.two_labels
    assert len(searched) == 1
    photograph(99).save(photos / "made/moss/0.png")
    remembered_leaks(load_dataset(photos / "real", photos / "made"), cache)
    assert len(searched) == 2
    cache.write_text("{", encoding="utf-8")
    remembered_leaks(load_dataset(photos / "real", photos / "made"), cache)
    assert len(searched) == 3
