"""`--real torchvision:CIFAR10`: a public data set as train/<class>/ and test/<class>/ folders of
PNG files, created once.

The download and the folders are kept in torch's cache, under synthgrid/.

No pickle is opened. torchvision reads CIFAR from pickled batches, so CIFAR is read here from its
authors' binary archive instead, member by member. The other sets are read by torchvision and hold
no pickles: IDX (MNIST, FashionMNIST), MATLAB 5 files (SVHN, Flowers102), raw bytes (STL10), JPEG
and text (OxfordIIITPet). Every download is checked against its known MD5. Food101 is left out: 5 GB
of JPEG would become some 45 GB of PNG.

Flowers102 and OxfordIIITPet keep their full size as PNG, 2 to 3 GB each. Their validation images
are not used: Flowers102 gives its 1,020 training images, OxfordIIITPet its "trainval" ones.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from comfy_nodes.labelset import folder_name
from trainer.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

PREFIX = "torchvision:"
PARTS = ("train", "test")
_TIMEOUT_S = 30.0
_CHUNK = 256
_CIFAR_SIDE = 32

LabelledImages = Iterable[tuple[Image.Image, str]]


@dataclass(frozen=True)
class CifarArchive:
    """The binary version of a CIFAR set: rows of `label_bytes` labels, of which the last is used,
    and 3x32x32 pixels."""

    url: str
    md5: str
    names: str
    files: dict[str, tuple[str, ...]]
    label_bytes: int

    @property
    def file_name(self) -> str:
        """The archive's name in the downloads folder."""
        return self.url.rsplit("/", 1)[1]

    def read(self, downloads: Path, part: str) -> LabelledImages:
        """The images of "train" or "test". Downloads the archive if it is missing or incomplete."""
        from torchvision.datasets.utils import download_url

        download_url(self.url, str(downloads), md5=self.md5)
        with tarfile.open(downloads / self.file_name) as archive:
            names = _member(archive, self.names).decode().split()
            for file in self.files[part]:
                rows = np.frombuffer(_member(archive, file), np.uint8)
                rows = rows.reshape(-1, self.label_bytes + 3 * _CIFAR_SIDE**2)
                pixels = (
                    rows[:, self.label_bytes :]
                    .reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
                    .transpose(0, 2, 3, 1)
                )
                for label, image in zip(rows[:, self.label_bytes - 1], pixels, strict=True):
                    yield Image.fromarray(np.ascontiguousarray(image)), names[label]


@dataclass(frozen=True)
class TorchvisionSet:
    """A set that torchvision reads; `train` and `test` are the arguments that choose the part."""

    name: str
    train: dict[str, Any]
    test: dict[str, Any]

    def read(self, downloads: Path, part: str) -> LabelledImages:
        """The images of "train" or "test". Downloads what is missing."""
        from torchvision import datasets

        chosen = self.train if part == "train" else self.test
        dataset = getattr(datasets, self.name)(root=str(downloads), download=True, **chosen)
        names = getattr(dataset, "classes", None) or [str(digit) for digit in range(10)]
        for index in range(len(dataset)):
            image, label = dataset[index]
            yield image, names[label]


_CIFAR = "https://www.cs.toronto.edu/~kriz"
_BY_FLAG: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})
SETS: dict[str, CifarArchive | TorchvisionSet] = {
    "CIFAR10": CifarArchive(
        url=f"{_CIFAR}/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        names="cifar-10-batches-bin/batches.meta.txt",
        files={
            "train": tuple(
                f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)
            ),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
        label_bytes=1,
    ),
    "CIFAR100": CifarArchive(
        url=f"{_CIFAR}/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        names="cifar-100-binary/fine_label_names.txt",
        files={"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
        label_bytes=2,
    ),
    "MNIST": TorchvisionSet("MNIST", *_BY_FLAG),
    "FashionMNIST": TorchvisionSet("FashionMNIST", *_BY_FLAG),
    "SVHN": TorchvisionSet("SVHN", *_BY_SPLIT),
    "STL10": TorchvisionSet("STL10", *_BY_SPLIT),
    "Flowers102": TorchvisionSet("Flowers102", *_BY_SPLIT),
    "OxfordIIITPet": TorchvisionSet("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
}


def real_folder(real: str) -> Path:
    """The folder that --real names: itself, or the folder of "torchvision:NAME", which is created
    if it does not exist.

    Raises:
        ConfigError: the set is unknown.
        DataError: the set cannot be downloaded, read or written.
    """
    if not real.startswith(PREFIX):
        return Path(real)
    wanted = real.removeprefix(PREFIX)
    names = {name.lower(): name for name in SETS}
    if wanted.lower() not in names:
        raise ConfigError(
            f"data set '{real}' is unknown; choose {PREFIX} and one of {', '.join(SETS)}"
        )
    name = names[wanted.lower()]
    cache = cache_folder()
    folder = cache / name.lower()
    if not folder.is_dir():
        _make(name, folder, downloads=cache / "downloads")
    return folder


def cache_folder() -> Path:
    """Where downloads and folders are kept: next to torchvision's own weights."""
    import torch  # takes seconds; the user's own folders do not need it

    return Path(torch.hub.get_dir()).parent / "synthgrid"


def _make(name: str, folder: Path, *, downloads: Path) -> None:
    """Writes all images next to the folder, then renames: a set exists completely or not at all."""
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    logger.info("%s%s: making folders in %s", PREFIX, name, folder)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(_TIMEOUT_S):
            for part in PARTS:
                _write_part(SETS[name].read(downloads, part), partial / part)
        if not folder.is_dir():  # another process may have been faster
            partial.rename(folder)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        tarfile.TarError,
    ) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{PREFIX}{name} is not available ({reason[-1] if reason else type(error).__name__}); "
            f"connect to the internet once, or put the files of its download into {downloads}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_part(images: LabelledImages, root: Path) -> None:
    """`root/<class>/00042.png`, numbered in the order of the data set."""
    numbered, written = enumerate(images), 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while chunk := list(islice(numbered, _CHUNK)):
            for label in {label for _, (_, label) in chunk}:
                (root / folder_name(label)).mkdir(parents=True, exist_ok=True)
            paths = [
                root / folder_name(label) / f"{number:05d}.png" for number, (_, label) in chunk
            ]
            list(
                pool.map(
                    lambda image, path: image.save(path), [image for _, (image, _) in chunk], paths
                )
            )
            written += len(chunk)
    logger.info("%s: %d images", root.name, written)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """The bytes of one file in an archive. Nothing is unpacked to disk."""
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the archive")
    with file:
        return file.read()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision's downloads set no timeout, so an unresponsive network would hang them."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
