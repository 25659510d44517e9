"""groups.csv, from `split`: which training images are held out together."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import replace
from pathlib import Path

from trainer.data.samples import Sample
from trainer.errors import DataError

logger = logging.getLogger(__name__)
GROUPS_FILE = "groups.csv"


def with_groups(samples: tuple[Sample, ...], path: Path, *, part: str) -> tuple[Sample, ...]:
    """The samples with the groups that groups.csv gives them, if it is there.

    Raises:
        DataError: the file is not a list of groups.
    """
    if not path.is_file():
        return samples
    try:
        group_of = read_group_table(path.read_text(encoding="utf-8-sig", errors="surrogatepass"))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} is not a list of groups ({error}); expected the columns image and group, or "
            "remove the file"
        ) from error
    found = tuple(replace(each, group=group_of.get(f"{part}/{each.file}", "")) for each in samples)
    if group_of and not any(each.group for each in found):
        logger.warning(
            "%s names none of the training images; expected names such as %s/%s",
            path,
            part,
            samples[0].file,
        )
    return found


def read_group_table(text: str) -> dict[str, str]:
    """{image: group} from CSV text with these two columns.

    Raises:
        ValueError: a column is missing, or a line lacks a value.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {"image", "group"} <= set(rows.fieldnames or ()):
        raise ValueError("expected the columns image and group in its first line")
    found = {}
    for row in rows:
        if not row["image"] or row["group"] is None:
            raise ValueError(f"line {rows.line_num} has no image or no group")
        found[row["image"].replace("\\", "/")] = row["group"]
    return found
