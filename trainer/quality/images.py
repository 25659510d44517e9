"""What is judged: real images, and synthetic ones with what their records say of them."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from comfy_nodes.labelset import ImageRecord, folder_name
from trainer.data.samples import Sample, by_folder_name, quoted, read_class_folders, read_labelled
from trainer.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """How an image was made, as its record says; "" for what is not known."""

    prompt: str = ""
    template: str = ""
    context: str = ""
    style: str = ""
    source_image: str = ""
    source_sha256: str = ""
    strength: str = ""


@dataclass(frozen=True)
class RealImages:
    """`train` is what images are judged by; `test`, which may be empty, is only looked at for
    copies. `classes` are sorted."""

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()

    def without(self, trained_on: frozenset[str]) -> RealImages:
        """The same without training images of these hashes, such as an embedder has learnt from."""
        return replace(
            self, train=tuple(each for each in self.train if each.sha256 not in trained_on)
        )


@dataclass(frozen=True)
class MadeImages:
    """One synthetic folder: `samples` and their `origins`, of classes that there are real images
    of. `others` are of classes without any."""

    root: Path
    samples: tuple[Sample, ...]
    origins: tuple[Origin, ...]
    others: tuple[Sample, ...] = ()

    def by(self, field: str) -> dict[str, MadeImages]:
        """The images by the value of a `field` of their origins, one of FIELDS; those without are
        left out.

        Raises:
            DataError: there are fewer than two values.
        """
        values = [str(getattr(each, field)) for each in self.origins]
        found = sorted(set(values) - {""})
        if len(found) < 2:
            there = f"every image that has one has '{found[0]}'" if found else "no image has one"
            raise DataError(
                f"{self.root} cannot be divided by {field}: {there}; expected at least two, such "
                "as those of a plan with several"
            )
        return {value: self._where([each == value for each in values]) for value in found}

    def _where(self, chosen: Sequence[bool]) -> MadeImages:
        return replace(
            self,
            samples=tuple(compress(self.samples, chosen)),
            origins=tuple(compress(self.origins, chosen)),
        )


def load_real(folder: Path) -> RealImages:
    """Real images: train/<class>/ with or without test/<class>/, or plain class folders.

    Raises:
        DataError: the folder is missing or empty, or has fewer than two classes.
    """
    is_split = (folder / "train").is_dir()
    train = read_class_folders(folder / "train" if is_split else folder)
    has_test = is_split and (folder / "test").is_dir()
    classes = tuple(sorted({each.label for each in train}))
    if len(classes) < 2:
        raise DataError(
            f"{folder} has one class, '{classes[0]}'; what an image shows can only be judged among "
            "at least two"
        )
    return RealImages(classes, train, read_class_folders(folder / "test") if has_test else ())


def load_made(folder: Path, classes: tuple[str, ...]) -> MadeImages:
    """The images of a labelled folder, tar shards or plain class folders, under the real classes'
    names.

    Raises:
        DataError: the folder is missing, empty or damaged, or shares no class with `classes`.
    """
    if not folder.is_dir():
        raise DataError(f"synthetic folder {folder} does not exist; make it with: synthgrid run")
    names = by_folder_name(classes)
    found: list[tuple[Sample, Origin]] = []
    others: list[Sample] = []
    read = read_labelled(folder)
    for sample, record in zip(read.samples, read.records, strict=True):
        label = unicodedata.normalize("NFC", sample.label)
        real_name = names.get(label) or names.get(folder_name(label))
        if real_name is None:
            others.append(sample)
        else:
            found.append((replace(sample, label=real_name, source=folder.name), _origin(record)))
    unknown = sorted({each.label for each in others})
    if not found:
        raise DataError(
            f"no class of {folder} is among the real ones: {quoted(unknown)} against "
            f"{quoted(sorted(classes))}; rename the folders"
        )
    if others:
        logger.warning(
            "%s: %d images of %s are not judged: there are no real images of these classes",
            folder,
            len(others),
            quoted(unknown),
        )
    samples, origins = zip(*found, strict=True)
    return MadeImages(folder, samples, origins, tuple(others))


def _origin(record: ImageRecord | None) -> Origin:
    if record is None:
        return Origin()
    return Origin(
        record.prompt,
        record.template,
        record.context or "",
        record.style or "",
        record.source_image or "",
        record.source_sha256 or "",
        "" if record.strength is None else f"{record.strength:g}",
    )
