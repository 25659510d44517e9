"""From class folders to train/<class>/ and test/<class>/ with a few images each.

    <images>/<class>/...   ->   <out>/train/<class>/...   <out>/test/<class>/...
                                (<out>/val/<class>/...)   <out>/split.json
                                                          <out>/groups.csv, if images share groups

Where an image goes depends on its content and the seed, not on its name, its place in a listing, or
the other classes. Without groups, asking for more training images keeps the same test images and
the earlier training images. Images of one group are never in different parts; identical files are
always one group.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainer.data.group_table import GROUPS_FILE
from trainer.data.samples import Sample, quoted, read_class_folders
from trainer.data.shards import Member, read_member
from trainer.data.splits.groups import find_groups
from trainer.data.torchvision_sets import PREFIX, real_folder
from trainer.errors import ConfigError, DataError
from trainer.runs import to_csv

logger = logging.getLogger(__name__)

SPLIT_FILE = "split.json"
# In filling order, so that the test part changes least.
PARTS = (
    "test",
    "train",
    "val",
)
_PART_NAMES = {"train", "test", "val", "valid", "validation"}
# Orders tried until groups fill every part; without groups the first one always works.
_ATTEMPTS = 200
_SHOWN = 5


@dataclass(frozen=True)
class SplitConfig:
    """What to split and how: `train`, `test` and `val` count images per class; `images` may be
    "torchvision:NAME".

    `group_by` is None, "prefix", "similar", or a CSV or JSON file (see groups.py). `link`
    makes hard links, which share their content with the source, instead of copies. With
    `long_tail` RHO, class k of C, in an order drawn by the seed, has
    train x RHO^(-k/(C-1)) training images, at least one: from `train` down to 1/RHO of it (Cui et
    al. 2019, arXiv 1901.05555; the random order is our choice).
    """

    images: str
    out: str
    train: int = 30
    test: int = 30
    val: int = 0
    seed: int = 0
    group_by: str | None = None
    link: bool = False
    long_tail: float | None = None

    def __post_init__(self) -> None:
        if self.long_tail is not None and not 1 < self.long_tail < math.inf:
            raise ConfigError(
                f"long_tail is {self.long_tail!r}; expected a number above 1: how many times as "
                "many training images the largest class has as the smallest"
            )
        for name, low in (("train", 1), ("test", 1), ("val", 0), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {low}")

    @property
    def wanted(self) -> dict[str, int]:
        """Images per class in each part."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def per_class(self) -> int:
        """Images per class that the parts take together."""
        return sum(self.wanted.values())

    def asked(self) -> str:
        """For a message: "30 train + 30 test"."""
        return " + ".join(
            f"{count} {part}" for part in ("train", "test", "val") if (count := self.wanted[part])
        )


@dataclass(frozen=True)
class Split:
    """`parts` has each part's images, sorted by class and file. The remaining source images are in
    no part."""

    config: SplitConfig
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[Sample, ...]]
    groups: Mapping[str, str]
    images: int

    @property
    def left_out(self) -> int:
        """How many images of the source are in no part."""
        return self.images - sum(len(samples) for samples in self.parts.values())

    def shared_groups(self) -> list[tuple[str, str]]:
        """(image, group) as in groups.csv: "train/cat/1.png", for images of a part that share their
        group with another of it."""
        found: list[tuple[str, str]] = []
        for part, samples in self.parts.items():
            counts = Counter(self.groups[each.file] for each in samples)
            found += [
                (f"{part}/{each.file}", group)
                for each in samples
                if counts[group := self.groups[each.file]] > 1
            ]
        return found

    def to_dict(self) -> dict[str, object]:
        """As it is stored in split.json. Only images that share a group have `group`."""
        shared = {group for group, count in Counter(self.groups.values()).items() if count > 1}

        def entry(sample: Sample) -> dict[str, str]:
            group = self.groups[sample.file]
            return {"file": sample.file, "sha256": sample.sha256} | (
                {"group": group} if group in shared else {}
            )

        return {
            "format": 1,
            "config": {
                name: value
                for name, value in asdict(self.config).items()
                if (name, value) != ("long_tail", None)
            },
            "seed": self.config.seed,
            "classes": list(self.classes),
            "images": self.images,
            "left_out": self.left_out,
            "versions": _versions(),
            "parts": {
                part: [entry(sample) for sample in samples] for part, samples in self.parts.items()
            },
        }


def write_split(config: SplitConfig) -> Split:
    """Plans the split and writes it, all of it or nothing. The source is only read.

    Raises:
        DataError: as `plan_split`; or `out` holds something, lies inside `images`, or cannot be
            written.
    """
    return write_splits(config, lambda: {"": plan_split(config)})[""]


def write_splits(config: SplitConfig, plan: Callable[[], dict[str, Split]]) -> dict[str, Split]:
    """Writes what `plan` gives, by its folder inside `config.out`, as `write_split` does."""
    out, images = Path(config.out), source_folder(config)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out} is not empty; nothing was changed: choose another folder with --out"
        )
    if out.resolve().is_relative_to(images.resolve()):
        raise DataError(
            f"{out} is inside {images}, where it would be taken for a class; choose another folder "
            "with --out"
        )
    splits = plan()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        for name, split in splits.items():
            _write_files(split, partial / name)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror or error}; check space and permissions"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return splits


def plan_split(config: SplitConfig) -> Split:
    """Reads the source and decides where each image goes; writes nothing.

    Raises:
        DataError: there are no class folders, a file is unreadable, a class has too few images, or
            groups are too large to fill all parts; the message names the class and its counts.
    """
    samples = _read_source(source_folder(config))
    _check_counts(samples, config)
    group_of = find_groups(samples, config.group_by)
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[group_of[sample.file]].append(sample)
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS if config.wanted[part]}
    for block in _linked_classes(members.values()):
        for part, chosen in _fill_block(block, config).items():
            parts[part] += chosen
    classes = tuple(sorted({sample.label for sample in samples}))
    if config.long_tail is not None:
        parts["train"] = _long_tail(parts["train"], classes, config)
    ordered: dict[str, tuple[Sample, ...]] = {
        part: tuple(sorted(parts[part], key=lambda each: (each.label, each.file)))
        for part in ("train", "test", "val")
        if part in parts
    }
    return Split(config, classes, ordered, group_of, len(samples))


def source_folder(config: SplitConfig) -> Path:
    """The class folders to split; of "torchvision:NAME" the training part, so that its test images
    stay unseen."""
    folder = real_folder(config.images)
    return folder / "train" if config.images.startswith(PREFIX) else folder


def _read_source(root: Path) -> tuple[Sample, ...]:
    samples = read_class_folders(root)
    folders = {Path(sample.file).parts[0] for sample in samples}
    if folders <= _PART_NAMES:
        raise DataError(
            f"{root} is already split: its folders are {quoted(sorted(folders))}, not classes; "
            f"name the folder to split, as in --images {root / min(folders)}"
        )
    if len(folders) == 1:
        (only,) = folders
        deeper = any(each.is_dir() for each in (root / only).iterdir())
        hint = (
            f"its classes may be inside: try --images {root / only}"
            if deeper
            else "a classifier needs at least two"
        )
        raise DataError(f"{root} has one class folder, '{only}'; {hint}")
    return samples


def _check_counts(samples: Iterable[Sample], config: SplitConfig) -> None:
    counts = Counter(sample.label for sample in samples)
    short = [
        f"'{label}' has {count}"
        for label, count in sorted(counts.items())
        if count < config.per_class
    ]
    if short:
        more = f" and {len(short) - _SHOWN} more classes" * (len(short) > _SHOWN)
        raise DataError(
            f"too few images for {config.asked()} per class: {', '.join(short[:_SHOWN])}{more}, "
            f"needs {config.per_class}; ask for fewer, or move the class out of {config.images}"
        )


def tail_counts(classes: Sequence[str], config: SplitConfig) -> dict[str, int]:
    """Training images of each class of a long tail, the largest first."""

    def drawn(label: str) -> bytes:
        return hashlib.sha256(f"{config.seed}\0tail\0{label}".encode()).digest()

    rho, last = config.long_tail or 1.0, max(1, len(classes) - 1)
    return {
        label: max(1, round(config.train * rho ** (-place / last)))
        for place, label in enumerate(sorted(classes, key=drawn))
    }


def _long_tail(
    train: Iterable[Sample], classes: Sequence[str], config: SplitConfig
) -> list[Sample]:
    left, kept = tail_counts(classes, config), []
    for sample in in_order(train, config.seed):
        if left[sample.label]:
            left[sample.label] -= 1
            kept.append(sample)
    return kept


def _linked_classes(groups: Iterable[list[Sample]]) -> list[list[list[Sample]]]:
    """The groups in blocks that share no class, so that each class is filled separately if its
    groups allow it."""
    block_of: dict[str, list[list[Sample]]] = {}
    for group in groups:
        labels = {sample.label for sample in group}
        blocks = {
            id(block): block for label in labels if (block := block_of.get(label)) is not None
        }
        merged = [each for block in blocks.values() for each in block] + [group]
        for label in labels | {sample.label for each in merged for sample in each}:
            block_of[label] = merged
    return list({id(block): block for block in block_of.values()}.values())


def _fill_block(groups: Sequence[list[Sample]], config: SplitConfig) -> dict[str, list[Sample]]:
    """The images of each part, in whole groups, from the first of the seed's orders that fills
    every part."""
    for attempt in range(_ATTEMPTS):
        filled = _fill(sorted(groups, key=lambda group: _rank(group, config.seed, attempt)), config)
        if filled is not None:
            return filled
    counts = Counter(sample.label for group in groups for sample in group)
    label = max(
        counts,
        key=lambda each: (max(sum(s.label == each for s in group) for group in groups), each),
    )
    sizes = [size for group in groups if (size := sum(sample.label == label for sample in group))]
    raise DataError(
        f"class '{label}' has {counts[label]} images in {len(sizes)} groups, the largest of "
        f"{max(sizes)}; {config.asked()} cannot be taken without splitting a group: ask for fewer, "
        "or group otherwise: --group-by prefix, a file of groups, or no --group-by"
    )


def _fill(groups: Sequence[list[Sample]], config: SplitConfig) -> dict[str, list[Sample]] | None:
    """Gives each group in turn to the part that it overfills least; None if a part cannot be
    filled."""
    parts: dict[str, list[Sample]] = {part: [] for part, count in config.wanted.items() if count}
    labels = {sample.label for group in groups for sample in group}
    missing = {part: dict.fromkeys(labels, config.wanted[part]) for part in parts}
    for group in groups:
        counts = Counter(sample.label for sample in group)
        open_parts = [part for part in parts if any(missing[part][label] for label in counts)]
        if not open_parts:
            continue
        part = min(
            open_parts,
            key=lambda each: sum(max(0, counts[label] - missing[each][label]) for label in counts),
        )
        for sample in in_order(group, config.seed):
            if missing[part][sample.label]:
                missing[part][sample.label] -= 1
                parts[part].append(sample)
    return None if any(count for counts in missing.values() for count in counts.values()) else parts


def in_order(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Images in the seed's order."""
    return sorted(samples, key=lambda each: (_rank([each], seed, 0), each.file))


def _rank(group: Iterable[Sample], seed: int, attempt: int) -> bytes:
    """A group's sort key in the seed's order, from the contents of its images alone."""
    contents = "".join(sorted(sample.sha256 for sample in group))
    return hashlib.sha256(f"{seed}\0{attempt}\0{contents}".encode()).digest()


def _write_files(split: Split, root: Path) -> None:
    for part, samples in split.parts.items():
        for sample in samples:
            path = root / part / sample.file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(sample.path, Member):
                path.write_bytes(read_member(sample.path))
            elif split.config.link:
                _link(sample.path, path)
            else:
                shutil.copy2(sample.path, path)
    text = json.dumps(split.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (root / SPLIT_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    if rows := split.shared_groups():
        table = to_csv(("image", "group"), rows)
        (root / GROUPS_FILE).write_bytes(table)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source.resolve(), path)
    except OSError as error:
        raise DataError(
            f"cannot link {source} ({error.strerror or error}); hard links work only within one "
            "file system: leave --link out"
        ) from error


def _versions() -> dict[str, str]:
    try:
        own = version("synthgrid")
    except PackageNotFoundError:
        own = "not installed"
    return {"synthgrid": own, "python": platform.python_version()}
