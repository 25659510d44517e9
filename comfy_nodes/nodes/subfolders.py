"""Where labelled folders are below the saver's folder, and which of a plan's images are in them.

    {label}              the folder itself is the labelled folder: <folder>/<class>/<image>
    {style}/{label}      one labelled folder per style: <folder>/<style>/<class>/<image>
    {plan_id}/{label}    one labelled folder per plan

The class folder always comes last, so that ImageFolder can read each labelled folder as it is.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import LabelsetError
from ..labelset import folder_name, rejected_attempts
from ..labelset.images.imagefile import SUFFIXES
from ..labelset.index import holds_something
from ..labelset.quality.verdicts import QUARANTINE
from ..plan import ImageSpec, placeholders

LABEL = "{label}"
TOKENS = ("plan_id", "template", "context", "style")
_TOKEN = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class SubfolderPattern:
    """Parts between slashes: {label} comes last.

    The parts before it may contain {plan_id}, {template}, {context} and {style}.

    Raises:
        LabelsetError: no class folder at the end, an unknown token, a part that leads out of the
            folder, or one that is not a valid folder name everywhere.
    """

    text: str = LABEL

    def __post_init__(self) -> None:
        *parents, last = self._parts()
        if last != LABEL or any(LABEL in part for part in parents):
            raise LabelsetError(
                f"subfolders '{self.text}' must end in {LABEL} and have it only there: "
                "the class folder holds the images"
            )
        for part in parents:
            for token in placeholders(part):
                if token not in TOKENS:
                    known = ", ".join("{" + each + "}" for each in TOKENS)
                    raise LabelsetError(
                        f"subfolders '{self.text}' has the unknown '{{{token}}}'; "
                        f"known: {known}, {LABEL}"
                    )
            plain = _TOKEN.sub("x", part)
            if not plain.strip() or folder_name(plain) != plain:
                raise LabelsetError(
                    f"subfolders '{self.text}': '{part}' is not a valid folder name on every "
                    "file system; change it"
                )

    def parent(self, spec: ImageSpec, plan_id: str) -> str:
        """A row's labelled folder, relative to the saver's folder: "at dusk", or "" for itself.

        It has forward slashes. If the row's template does not use {style}, the folder is
        "no style"; likewise for {context}.
        """
        values = {
            "plan_id": plan_id,
            "template": spec.template or "no template",
            "context": spec.context or "no context",
            "style": spec.style or "no style",
        }
        *parents, _ = self._parts()
        return "/".join(
            folder_name(_TOKEN.sub(lambda match: values[match.group(1)], part)) for part in parents
        )

    def depth(self) -> int:
        """How many levels a labelled folder is below the saver's folder; 0 if it is the same."""
        return len(self._parts()) - 1

    def _parts(self) -> list[str]:
        return self.text.strip().replace("\\", "/").split("/")


def images_below(root: Path, plan_id: str) -> set[int]:
    """Indices of the plan's images at any depth below the folder, in any format, by file name.

    A file of 0 bytes, which a power cut leaves behind, is no image. Nothing is changed:
    LabelledFolder.scan would repair the folder, perhaps while the saver writes.
    """
    suffixes = "|".join(re.escape(suffix) for suffix in SUFFIXES.values())
    images = re.compile(rf"{re.escape(plan_id)}-(\d+)(?:{suffixes}|\.jpeg)", re.IGNORECASE)
    return {
        int(match[1])
        for folder, _, files in os.walk(root)
        for name in files
        if (match := images.fullmatch(name)) and holds_something(Path(folder, name))
    }


def rejected_below(root: Path, plan_id: str) -> dict[int, int]:
    """Index -> the last attempt that a check rejected, of the folder and all labelled ones in it.

    Raises:
        LabelsetError: the records of rejected images cannot be read.
    """
    highest = rejected_attempts(root, plan_id)
    for folder, names, _ in os.walk(root):
        for name in names:
            if name.endswith(QUARANTINE):
                inside = rejected_attempts(Path(folder, name.removesuffix(QUARANTINE)), plan_id)
                highest = {
                    index: max(highest.get(index, 0), inside.get(index, 0))
                    for index in highest.keys() | inside.keys()
                }
    return highest
