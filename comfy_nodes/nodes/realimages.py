"""Real images by class: which file a row of a plan starts from, and its pixels at a given size.

    <ComfyUI's input folder>/<folder>/<class folder>/<any depth>/<image>

Every class cycles through its images in shuffled rounds, as a plan does through a bank of prompts:
each image is used about equally often, and the file for a row follows only from the plan's seed,
the class and the image's position in it. Pillow and NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import LabelsetError
from ..labelset import folder_name, sha256
from ..labelset.images.to_rgb import IMAGE_SUFFIXES, decode_rgb
from ..paths import files_below
from ..plan import fingerprint
from ..plan.draws import draw


@dataclass(frozen=True)
class SourceImage:
    """The real image that a generated one started from.

    `file` is its path in the folder, "bat/IMG 7.jpg"; `sha256` is of the file.
    """

    file: str
    sha256: str


@dataclass(frozen=True)
class RealFolder:
    """A folder of class folders. `shown` is its name in messages; nothing is kept between calls."""

    root: Path
    shown: str

    def classes(self) -> dict[str, Path]:
        """Folder name -> class folder, sorted.

        Raises:
            LabelsetError: the folder does not exist, cannot be read, or has no class folders.
        """
        try:
            found = sorted(
                each
                for each in self.root.iterdir()
                if each.is_dir() and not each.name.startswith(".")
            )
        except FileNotFoundError:
            raise LabelsetError(
                f"folder '{self.shown}' does not exist ({self.root}); "
                "create it, with one sub-folder of images per class"
            ) from None
        except OSError as error:
            raise LabelsetError(
                f"cannot read folder '{self.shown}': {error.strerror or error}"
            ) from error
        if not found:
            raise LabelsetError(
                f"folder '{self.shown}' has no class folders; expected one sub-folder per class"
            )
        return {each.name: each for each in found}

    def images(self, label: str) -> list[str]:
        """The image files of a class, sorted: paths relative to the folder, with forward slashes.

        Raises:
            LabelsetError: the class has no folder, or no image in it (the message lists the file
                name endings that count).
        """
        folder = self._of_class(label, self.classes())
        found = sorted(path.relative_to(self.root).as_posix() for path in _files(folder))
        if not found:
            raise _no_images(folder)
        return found

    def check(self, labels: Iterable[str]) -> None:
        """Whether every class has real images. Raises LabelsetError as `images` does."""
        folders = self.classes()
        for label in labels:
            folder = self._of_class(label, folders)
            if next(_files(folder), None) is None:
                raise _no_images(folder)

    def _of_class(self, label: str, folders: Mapping[str, Path]) -> Path:
        folder = folders.get(label) or folders.get(folder_name(label))
        if folder is None:
            more = f" and {len(folders) - 10} more" if len(folders) > 10 else ""
            listed = ", ".join(list(folders)[:10]) + more
            raise LabelsetError(
                f"folder '{self.shown}' has no folder for class '{label}'; it has {listed}. "
                "Give the same folder as the path of SynthGrid Class List"
            )
        return folder

    def state(self) -> str:
        """Twelve hexadecimal digits that change with the files' names, sizes and times."""
        files = sorted(_files(self.root)) if self.root.is_dir() else []
        stats = [(path, path.stat()) for path in files]
        return fingerprint([[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats])

    def read(self, file: str, width: int, height: int) -> tuple[Image.Image, SourceImage]:
        """One image, upright, in RGB, scaled and centre-cropped to `width` x `height` pixels.

        The second value is what the record says about it.

        Raises:
            LabelsetError: the file, which is named, cannot be read, is not a complete image, or has
                pixel values without a definite 8-bit meaning.
        """
        path = self.root / file
        try:
            data = path.read_bytes()
            upright = decode_rgb(data, name=str(path))
        except OSError as error:
            raise LabelsetError(f"cannot read {path}: {error.strerror or error}") from error
        fitted = ImageOps.fit(upright, (width, height), method=Image.Resampling.LANCZOS)
        return fitted, SourceImage(file, sha256(data))


def source_of(files: Sequence[str], *, plan_seed: int, label: str, position: int) -> str:
    """The file that a class's image number `position`, counted from 0, starts from."""
    return draw(files, plan_seed, label, "real image", position)


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in files_below(folder)
        if path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")
    )


def _no_images(folder: Path) -> LabelsetError:
    return LabelsetError(
        f"class folder {folder} has no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
    )
