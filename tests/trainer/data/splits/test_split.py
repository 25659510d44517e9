"""The scarce split: by content, whole groups, and the source untouched.

Covers: trainer.commands.split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.__main__ import main
from trainer.data.dataset import load_dataset
from trainer.data.splits.groups import prefix
from trainer.data.splits.split import Split, SplitConfig, plan_split, tail_counts, write_split
from trainer.errors import ConfigError, DataError


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (16, 16, 3), dtype=np.uint8)).save(
        path
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 20 different images."""
    for number in range(20):
        noise(tmp_path / "images" / "cat" / f"{number:02d}.png", number)
        noise(tmp_path / "images" / "dog" / f"{number:02d}.png", 100 + number)
    return tmp_path / "images"


def plan(images: Path, **options: object) -> Split:
    values = {"train": 6, "test": 8, **options}
    return plan_split(SplitConfig(images=str(images), out="unused", **values))  # type: ignore[arg-type]


def contents(split: Split, part: str) -> set[str]:
    return {sample.sha256 for sample in split.parts[part]}


def tree(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_every_class_gets_the_numbers_asked_for_and_no_image_is_in_two_parts(images: Path) -> None:
    split = plan(images, val=3)
    counts = {
        part: Counter(sample.label for sample in samples) for part, samples in split.parts.items()
    }
    assert counts == {
        part: {"cat": count, "dog": count}
        for part, count in {"train": 6, "test": 8, "val": 3}.items()
    }
    assert len(contents(split, "train") | contents(split, "test") | contents(split, "val")) == 34
    assert split.left_out == 6


def test_it_depends_on_content_and_seed_and_not_on_names_or_other_classes(
    images: Path, tmp_path: Path
) -> None:
    before = plan(images)
    for number, path in enumerate(sorted((images / "cat").iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed-{number}.png"))
    noise(images / "fox" / "0.png", 900)
    for number in range(1, 15):
        noise(images / "fox" / f"{number}.png", 900 + number)
    after = plan(images)
    for part in ("train", "test"):
        assert contents(before, part) <= contents(after, part)
    assert contents(plan(images, seed=1), "test") != contents(after, "test")


def test_more_training_images_leave_the_test_images_and_keep_the_earlier_ones(images: Path) -> None:
    few, many = plan(images, train=3), plan(images, train=10)
    assert contents(few, "test") == contents(many, "test")
    assert contents(few, "train") < contents(many, "train")
    assert contents(plan(images, train=3, val=4), "train") == contents(few, "train")


def test_a_long_tail_shrinks_by_its_factor_in_an_order_that_the_seed_draws() -> None:
    classes = [f"class {number}" for number in range(10)]

    def counts(**options: object) -> dict[str, int]:
        values = {"images": "x", "out": "y", "train": 500, "long_tail": 100.0, **options}
        return tail_counts(classes, SplitConfig(**values))  # type: ignore[arg-type]

    assert list(counts().values()) == [500, 300, 180, 108, 65, 39, 23, 14, 8, 5]
    assert list(counts(train=20).values())[-1] == 1
    assert list(counts()) != list(counts(seed=1))
    assert sorted(counts()) == classes


def test_a_long_tail_keeps_the_test_images_and_part_of_the_training_images(images: Path) -> None:
    whole, tail = plan(images), plan(images, long_tail=3.0)
    assert contents(tail, "test") == contents(whole, "test")
    assert contents(tail, "train") < contents(whole, "train")
    labels = Counter(sample.label for sample in tail.parts["train"])
    assert sorted(labels.values()) == [2, 6]
    assert tail.to_dict()["config"] == {**whole.to_dict()["config"], "long_tail": 3.0}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="long_tail is 1"):
        plan(images, long_tail=1)


def test_equal_files_stay_on_one_side_even_across_classes(images: Path) -> None:
    for number in range(20):
        shutil.copy(images / "cat" / f"{number:02d}.png", images / "dog" / f"copy{number:02d}.png")
    for seed in range(5):
        split = plan(images, seed=seed)
        assert not contents(split, "train") & contents(split, "test")


def test_frames_of_one_video_stay_on_one_side(tmp_path: Path) -> None:
    for label, first in (("cat", 0), ("dog", 1000)):
        for clip in range(7):
            for frame in range(5):
                noise(
                    tmp_path / "images" / label / f"clip{clip}_{frame:04d}.png",
                    first + 10 * clip + frame,
                )
    split = plan(tmp_path / "images", train=10, test=10, group_by="prefix")
    clips = {
        part: {prefix(sample.file) for sample in samples} for part, samples in split.parts.items()
    }
    assert not clips["train"] & clips["test"]
    assert all(len(samples) == 20 for samples in split.parts.values())
    assert len(plan(tmp_path / "images", train=10, test=10).parts["train"]) == 20


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_groups_of_a_file_stay_on_one_side(images: Path, tmp_path: Path, kind: str) -> None:
    files = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    group_of = {file: f"{file[:3]}-{int(Path(file).stem) % 5}" for file in files}
    path = tmp_path / f"groups.{kind}"
    lines = ["image,group", *(f"{file},{group}" for file, group in group_of.items())]
    path.write_text("\n".join(lines) if kind == "csv" else json.dumps(group_of), encoding="utf-8")
    split = plan(images, train=6, test=8, group_by=str(path))
    sides = {
        part: {group_of[sample.file] for sample in samples} for part, samples in split.parts.items()
    }
    assert not sides["train"] & sides["test"]
    path.write_text(
        "image,group\ncat/00.png,a" if kind == "csv" else '{"cat/00.png": "a"}', encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"has no group for 39 images: 'cat/01.png'"):
        plan(images, group_by=str(path))
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="is not a list of groups"):
        plan(images, group_by=str(path))


def test_groups_within_the_training_images_are_handed_on_to_validation(
    images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "by-five.csv"
    files = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    lines = [f"{file},{file[:3]}-{int(Path(file).stem) % 5}" for file in files]
    path.write_text("\n".join(["image,group", *lines]), encoding="utf-8")
    options = {"images": str(images), "train": 6, "test": 8}
    split = write_split(SplitConfig(out=str(tmp_path / "out"), group_by=str(path), **options))
    read = load_dataset(tmp_path / "out", None).train
    assert len({each.group for each in read}) > 1
    for each in read:
        together = [other.file for other in read if other.group == each.group]
        same = [
            other.file
            for other in split.parts["train"]
            if split.groups[other.file] == split.groups[each.file]
        ]
        assert together == same or (not each.group and same == [each.file])
    write_split(SplitConfig(out=str(tmp_path / "plain"), **options))
    assert not (tmp_path / "plain" / "groups.csv").exists()


def test_near_copies_stay_on_one_side(tmp_path: Path) -> None:
    """Each photograph is there twice, the second time smaller and as JPEG."""
    for number in range(24):
        label = ("moss", "sand")[number % 2]
        random = np.random.RandomState(number)
        layers = [random.randint(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (4, 8, 16)]
        stack = [
            np.asarray(Image.fromarray(each).resize((96, 96), Image.Resampling.BICUBIC), float)
            for each in layers
        ]
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((sum(stack) / 3).clip(0, 255).astype(np.uint8))
        image.save(tmp_path / "images" / label / f"{number:02d}-a.png")
        image.resize((80, 80)).save(tmp_path / "images" / label / f"{number:02d}-b.jpg", quality=70)
    split = plan(tmp_path / "images", train=8, test=8, group_by="similar")
    numbers = {
        part: {Path(sample.file).name[:2] for sample in samples}
        for part, samples in split.parts.items()
    }
    assert not numbers["train"] & numbers["test"]
    assert len(numbers["train"] | numbers["test"]) == 16


def test_a_class_with_too_few_images_is_named_with_its_count(images: Path) -> None:
    for number in range(12):
        (images / "dog" / f"{number:02d}.png").unlink()
    with pytest.raises(
        DataError, match=r"too few images for 6 train \+ 8 test per class: 'dog' has 8, needs 14"
    ):
        plan(images)


def test_groups_too_large_to_fill_both_parts_are_named(images: Path) -> None:
    for number, path in enumerate(sorted((images / "cat").iterdir())):
        path.rename(path.with_name(f"image_{number:04d}.png"))
    with pytest.raises(
        DataError,
        match=r"class 'cat' has 20 images in 1 groups, the largest of 20; 6 train \+ 8 test",
    ):
        plan(images, group_by="prefix")


def test_the_folders_are_ready_for_a_grid_and_the_source_is_as_it_was(
    images: Path, tmp_path: Path
) -> None:
    before, out = tree(images), tmp_path / "split"
    split = write_split(SplitConfig(images=str(images), out=str(out), train=6, test=8))
    assert tree(images) == before
    dataset = load_dataset(out, None)
    assert (len(dataset.train), len(dataset.test)) == (12, 16)
    train, test = ({each.sha256 for each in part} for part in (dataset.train, dataset.test))
    assert not train & test
    assert {sample.sha256 for sample in dataset.train} == contents(split, "train")
    stored = json.loads((out / "split.json").read_text(encoding="utf-8"))
    assert stored["config"]["train"] == 6
    assert {each["sha256"] for each in stored["parts"]["test"]} == contents(split, "test")
    assert (stored["seed"], stored["images"], stored["left_out"]) == (0, 40, 12)


def test_links_share_their_content_with_the_source(images: Path, tmp_path: Path) -> None:
    write_split(
        SplitConfig(images=str(images), out=str(tmp_path / "split"), train=6, test=8, link=True)
    )
    linked = next((tmp_path / "split" / "train" / "cat").iterdir())
    assert linked.samefile(images / "cat" / linked.name)


def test_a_folder_that_holds_anything_is_refused_and_left_alone(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "split"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty; nothing was changed"):
        write_split(SplitConfig(images=str(images), out=str(out), train=6, test=8))
    assert tree(out).keys() == {"notes.txt"}
    with pytest.raises(DataError, match="is inside"):
        write_split(SplitConfig(images=str(images), out=str(images / "split"), train=6, test=8))
    (out / "notes.txt").unlink()
    write_split(SplitConfig(images=str(images), out=str(out), train=6, test=8))
    assert not list(tmp_path.glob(".split.partial*"))


def test_a_failed_split_leaves_nothing_behind(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        write_split(SplitConfig(images=str(images), out=str(tmp_path / "split"), train=6, test=8))
    assert {path.name for path in tmp_path.iterdir()} == {"images"}


def test_a_folder_around_the_class_folders_is_not_taken_for_one_class(
    images: Path, tmp_path: Path
) -> None:
    (tmp_path / "around").mkdir()
    images.rename(tmp_path / "around" / "real")
    with pytest.raises(
        DataError,
        match=r"has one class folder, 'real'; its classes may be inside: try --images .*real",
    ):
        plan(tmp_path / "around")


def test_a_folder_that_is_split_already_is_refused(images: Path, tmp_path: Path) -> None:
    write_split(SplitConfig(images=str(images), out=str(tmp_path / "split"), train=6, test=8))
    with pytest.raises(DataError, match=r"is already split: its folders are 'test', 'train'"):
        plan(tmp_path / "split")


@pytest.mark.parametrize("options", [{"train": 0}, {"test": -1}, {"val": 1.5}, {"seed": -1}])
def test_counts_that_make_no_split_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is"):
        SplitConfig(images="a", out="b", **options)  # type: ignore[arg-type]


def test_the_command_says_what_it_wrote(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            "split",
            "--images",
            str(images),
            "--out",
            str(tmp_path / "s"),
            "--train",
            "6",
            "--test",
            "8",
        ]
    )
    assert code == 0
    assert "12 train, 16 test images of 2 classes; 12 of 40 left out" in capsys.readouterr().out
