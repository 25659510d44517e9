"""Which images belong together, so that near-copies never end up in different parts of a split.

    prefix    the frames of a video: names in one folder that differ only in their last number
              ("clip7_0012.jpg")
    similar   the same photograph (see trainer.data.leaks.similarity): re-encoded, resized, cropped
              a little, mirrored
    FILE      CSV with the columns image and group, or a JSON object {image: group}; an image is
              given by its path below the source folder, or by its file name alone if unique

Files of equal content always belong together. `split` writes the groups of its training images to
groups.csv, and trainer.data.splits.folds keeps them together when images are held out.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from trainer.data.group_table import read_group_table
from trainer.data.leaks.search import stacked, thumbnails
from trainer.data.leaks.similarity import find_matches_within
from trainer.data.samples import Sample, quoted
from trainer.errors import DataError

PREFIX, SIMILAR = "prefix", "similar"
_LAST_NUMBER = re.compile(r"[\s_.()\[\]-]*\d+[\s_.()\[\]-]*$")


def find_groups(samples: Sequence[Sample], group_by: str | None) -> dict[str, str]:
    """The group of each image, by `Sample.file`; a group is named after the first of its images.

    Raises:
        DataError: the file cannot be read or has no group for an image; or, with "similar", an
            image is damaged.
    """
    links = _by_key({sample.file: sample.sha256 for sample in samples})
    if group_by == PREFIX:
        links += _by_key({sample.file: prefix(sample.file) for sample in samples})
    elif group_by == SIMILAR:
        links += _look_alikes(samples)
    elif group_by is not None:
        links += _by_key(_read_groups(Path(group_by), [sample.file for sample in samples]))
    return _connected([sample.file for sample in samples], links)


def prefix(file: str) -> str:
    """The path without its ending and its last number: "cat/clip7_0012.jpg" -> "cat/clip7".

    A name that is only a number, or does not end in one, is left unchanged.
    """
    path = PurePosixPath(file)
    stem = _LAST_NUMBER.sub("", path.stem)
    return (path.parent / stem).as_posix() if stem and stem != path.stem else file


def _by_key(key_of: Mapping[str, str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for file, key in key_of.items():
        found.setdefault(key, []).append(file)
    return list(found.values())


def _look_alikes(samples: Sequence[Sample]) -> list[list[str]]:
    thumbs = stacked(thumbnails(samples), samples)
    return [
        [samples[match.first].file, samples[match.second].file]
        for match in find_matches_within(thumbs)
    ]


def _connected(files: Sequence[str], links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Joins everything that is linked, directly or not: {file: first file of its group}."""
    parent = {file: file for file in files}

    def root(file: str) -> str:
        while parent[file] != file:
            parent[file] = parent[parent[file]]
            file = parent[file]
        return file

    for linked in links:
        for other in linked[1:]:
            one, two = sorted((root(linked[0]), root(other)))
            parent[two] = one
    return {file: root(file) for file in files}


def _read_groups(path: Path, files: Sequence[str]) -> dict[str, str]:
    """The group of each image according to the user's file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        named = _parse_json(text) if path.suffix.lower() == ".json" else read_group_table(text)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; check --group-by"
        ) from error
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path} is not a list of groups ({error}); see --group-by in: synthgrid split --help"
        ) from error
    named = {key.replace("\\", "/"): group for key, group in named.items()}
    names = Counter(PurePosixPath(file).name for file in files)
    group_of = {}
    for file in files:
        name = PurePosixPath(file).name
        group = named.get(file, named.get(name) if names[name] == 1 else None)
        if group is not None:
            group_of[file] = group
    if missing := [file for file in files if file not in group_of]:
        raise DataError(
            f"{path} has no group for {len(missing)} images: {quoted(missing)}; give each image one"
        )
    return group_of


def _parse_json(text: str) -> dict[str, str]:
    values = json.loads(text)
    if not isinstance(values, dict) or not all(
        isinstance(each, str | int) for each in values.values()
    ):
        raise ValueError("expected an object with a string or a number for each image")
    return {image: str(group) for image, group in values.items()}
