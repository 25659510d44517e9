"""Public data sets as folders: from files in their real formats, which the tests write."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data import torchvision_sets as torchvision_data
from trainer.data.dataset import load_dataset
from trainer.data.splits.split import SplitConfig, plan_split
from trainer.data.torchvision_sets import SETS, CifarArchive, cache_folder, real_folder
from trainer.errors import ConfigError, DataError

CIFAR10_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


def write_archive(path: Path, members: dict[str, bytes]) -> str:
    """A .tar.gz as CIFAR's authors make it; returns its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar_rows(labels: list[tuple[int, ...]], seed: int) -> tuple[bytes, np.ndarray]:
    """Binary rows and their pixels as [N,32,32,3]: label bytes, then all red, all green, all
    blue."""
    pixels = np.random.RandomState(seed).randint(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    rows = b"".join(bytes(label) + pixels[index].tobytes() for index, label in enumerate(labels))
    return rows, pixels.transpose(0, 2, 3, 1)


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A small CIFAR-10 in the downloads folder, two images per class in each file; returns the test
    pixels."""
    folder = "cifar-10-batches-bin"
    labels = [(number % 10,) for number in range(20)]
    members = {
        f"{folder}/data_batch_{number}.bin": cifar_rows(labels, number)[0] for number in range(1, 6)
    }
    members[f"{folder}/test_batch.bin"], pixels = cifar_rows(labels, 9)
    members[f"{folder}/batches.meta.txt"] = "\n".join([*CIFAR10_NAMES, "", ""]).encode()
    known = SETS["CIFAR10"]
    assert isinstance(known, CifarArchive)
    md5 = write_archive(cache_folder() / "downloads" / known.file_name, members)
    monkeypatch.setitem(torchvision_data.SETS, "CIFAR10", replace(known, md5=md5))
    return pixels


def test_cifar10_becomes_folders_that_a_grid_reads(cifar10: np.ndarray) -> None:
    dataset = load_dataset(real_folder("torchvision:CIFAR10"), None)
    assert dataset.classes == tuple(CIFAR10_NAMES)
    assert (len(dataset.train), len(dataset.test)) == (100, 20)
    with Image.open(real_folder("torchvision:cifar10") / "test" / "truck" / "00019.png") as image:
        assert np.array_equal(np.asarray(image), cifar10[19])


def test_its_training_part_can_be_split(cifar10: np.ndarray) -> None:
    split = plan_split(SplitConfig(images="torchvision:CIFAR10", out="unused", train=4, test=6))
    assert {part: len(samples) for part, samples in split.parts.items()} == {
        "train": 40,
        "test": 60,
    }


def test_it_is_made_once(cifar10: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real_folder("torchvision:CIFAR10")
    (cache_folder() / "downloads" / "cifar-10-binary.tar.gz").unlink()
    assert real_folder("torchvision:CIFAR10") == folder


def test_cifar100_goes_by_its_fine_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SETS["CIFAR100"]
    assert isinstance(known, CifarArchive)
    rows, _ = cifar_rows([(4, 0), (1, 1)], 3)
    names = [f"fine{number}" for number in range(100)]
    members = {
        "cifar-100-binary/fine_label_names.txt": "\n".join(names).encode(),
        "cifar-100-binary/train.bin": rows,
        "cifar-100-binary/test.bin": rows,
    }
    md5 = write_archive(cache_folder() / "downloads" / known.file_name, members)
    monkeypatch.setitem(torchvision_data.SETS, "CIFAR100", replace(known, md5=md5))
    folder = real_folder("torchvision:CIFAR100")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == [
        "test/fine0/00000.png",
        "test/fine1/00001.png",
        "train/fine0/00000.png",
        "train/fine1/00001.png",
    ]


def test_an_archive_that_is_not_the_known_one_is_not_opened(cifar10: np.ndarray) -> None:
    """Its MD5 differs, so it is fetched again, for which there is no network here; nothing
    half-made stays."""
    with (cache_folder() / "downloads" / "cifar-10-binary.tar.gz").open("ab") as file:
        file.write(b"more")
    with pytest.raises(
        DataError,
        match=r"torchvision:CIFAR10 is not available .*connect to the internet once, or put",
    ):
        real_folder("torchvision:CIFAR10")
    assert {path.name for path in cache_folder().iterdir()} == {"downloads"}


def test_mnist_is_read_from_its_idx_files() -> None:
    raw = cache_folder() / "downloads" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.RandomState(0).randint(0, 256, (20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, 20, 28, 28) + pixels.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, 20) + bytes(range(10)) * 2
        )
    dataset = load_dataset(real_folder("torchvision:MNIST"), None)
    assert dataset.classes[:2] == ("0 - zero", "1 - one")
    with Image.open(
        real_folder("torchvision:MNIST") / "train" / "3 - three" / "00013.png"
    ) as image:
        assert np.array_equal(np.asarray(image), pixels[13])


def test_pets_are_read_from_their_folders() -> None:
    base = cache_folder() / "downloads" / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    for part, number in (("trainval", 1), ("test", 2)):
        lines = []
        for label, breed in enumerate(("Abyssinian", "great_pyrenees"), 1):
            Image.new("RGB", (30, 20), (40 * label, number, 0)).save(
                base / "images" / f"{breed}_{number}.jpg"
            )
            lines.append(f"{breed}_{number} {label} 1 1")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines))
    dataset = load_dataset(real_folder("torchvision:OxfordIIITPet"), None)
    assert dataset.classes == ("Abyssinian", "Great Pyrenees")
    assert (len(dataset.train), len(dataset.test)) == (2, 2)


def test_an_unknown_set_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'torchvision:ImageNet' is unknown; choose torchvision: and one of CIFAR10, ",
    ):
        real_folder("torchvision:ImageNet")


def test_without_a_network_the_message_says_what_to_do() -> None:
    with pytest.raises(DataError, match="torchvision:SVHN is not available") as caught:
        real_folder("torchvision:SVHN")
    assert "\n" not in str(caught.value)


def test_any_other_text_is_a_folder() -> None:
    assert real_folder("data/photos") == Path("data/photos")
    assert real_folder("C:/photos") == Path("C:/photos")
