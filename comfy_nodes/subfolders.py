"""Where below the saver's folder a labelled folder is, and which images of a plan are anywhere below it.

    {label}                     the folder itself is the labelled folder: <folder>/<class>/<image>
    {style}/{label}             one labelled folder a style, each with its records: <folder>/<style>/<class>/<image>
    {plan_id}/{label}           one labelled folder a plan

The class folder is always the last part, so that each labelled folder is one that ImageFolder reads as it is.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import LabelsetError
from .labelset import folder_name
from .labelset.imagefile import SUFFIXES
from .plan import ImageSpec, placeholders

LABEL = "{label}"
TOKENS = ("plan_id", "template", "context", "style")
_TOKEN = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class SubfolderPattern:
    """Parts between slashes; the last is {label}, the ones before may hold {plan_id}, {template}, {context} and {style}.

    Raises:
        LabelsetError: no class folder at the end, an unknown token, or a part that leaves the folder or is no folder name.
    """

    text: str = LABEL

    def __post_init__(self) -> None:
        *parents, last = self._parts()
        if last != LABEL or any(LABEL in part for part in parents):
            raise LabelsetError(
                f"subfolders '{self.text}' must end in {LABEL} and have it only there: the class folder holds the images"
            )
        for part in parents:
            for token in placeholders(part):
                if token not in TOKENS:
                    known = ", ".join("{" + each + "}" for each in TOKENS)
                    raise LabelsetError(
                        f"subfolders '{self.text}' has the unknown '{{{token}}}'; known: {known}, {LABEL}"
                    )
            plain = _TOKEN.sub("x", part)
            if not plain.strip() or folder_name(plain) != plain:
                raise LabelsetError(
                    f"subfolders '{self.text}': '{part}' is no folder name on every file system; change it"
                )

    def parent(self, spec: ImageSpec, plan_id: str) -> str:
        """The labelled folder of a row below the saver's folder, with forward slashes; "" for the folder itself.

        Where a row's template uses no {style}, the folder is "no style"; likewise for {context}.
        """
        values = {
            "plan_id": plan_id,
            "template": spec.template,
            "context": spec.context or "no context",
            "style": spec.style or "no style",
        }
        *parents, _ = self._parts()
        return "/".join(
            folder_name(_TOKEN.sub(lambda match: values[match.group(1)], part)) for part in parents
        )

    def depth(self) -> int:
        """How many folders lie between the saver's folder and a labelled folder."""
        return len(self._parts()) - 1

    def _parts(self) -> list[str]:
        return self.text.strip().replace("\\", "/").split("/")


def images_below(root: Path, plan_id: str) -> set[int]:
    """Indices of the plan's images at any depth below the folder, in any format, told by their file names.

    Only looks: LabelledFolder.scan would mend the folder, which is not for an onlooker to do while the saver writes.
    """
    suffixes = "|".join(re.escape(suffix) for suffix in SUFFIXES.values())
    images = re.compile(rf"{re.escape(plan_id)}-(\d+)(?:{suffixes}|\.jpeg)", re.IGNORECASE)
    names = (name for _, _, files in os.walk(root) for name in files)
    return {int(match[1]) for name in names if (match := images.fullmatch(name))}
