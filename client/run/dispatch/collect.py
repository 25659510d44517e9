"""Gets images from a server and checks each one: over /view, or moved out of its output folder.

An image counts only if its record is that of the planned row and its bytes are the record's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import ImageRecord, image_file_names, portable, read_regular
from comfy_nodes.labelset import sha256 as sha256_of
from comfy_nodes.plan.caption_plan import AnyPlan

from ...errors import ServerRefused, TransferError
from ...folder.verify import ImageChecker
from ...server.server import ComfyServer

log = logging.getLogger(__name__)


class Collector:
    """Gets the images of one server.

    `output_directory` is the server's output folder, where this machine can reach it.
    """

    def __init__(self, output_directory: Path | None = None) -> None:
        self._output = output_directory
        self._warned = False

    def fetch(
        self, server: ComfyServer, record: ImageRecord, location: Any
    ) -> tuple[bytes, Path | None]:
        """The checked bytes of an image, and the local file that they were read from, if any.

        An image that cannot be read from `output_directory` is downloaded.

        Raises:
            TransferError: the bytes are incomplete, or are not those of the record.
            ServerUnreachable: no answer.
        """
        data, path = self._local(record, location)
        if data is None:
            data = server.view(location)
        check_image(data, record)
        return data, path

    def _local(self, record: ImageRecord, location: Any) -> tuple[bytes | None, Path | None]:
        if self._output is None:
            return None, None
        try:
            path = local_path(self._output, location)
            data = read_regular(path)
            if sha256_of(data) == record.sha256:
                return data, path
            reason = "the file there does not have the bytes that the server saved"
        except TransferError as error:
            reason = str(error)
        except OSError as error:
            reason = error.strerror or str(error)
        if not self._warned:
            self._warned = True
            log.warning(
                "cannot take images out of %s (%s); downloading them instead: check --collect",
                self._output,
                reason,
            )
        return None, None


def take_away(path: Path) -> None:
    """Removes an image from a server's output folder, now that the labelled folder has it."""
    try:
        path.unlink()
    except OSError as error:
        log.debug("%s is left behind: %s", path, error)


def local_path(output_directory: Path, location: Any) -> Path:
    """The path of a saved image in a server's output folder, with links followed.

    Raises:
        TransferError: the file does not exist, or is not inside that folder.
    """
    if not isinstance(location, Mapping) or location.get("type", "output") != "output":
        raise TransferError(f"the server names no file in its output folder: {str(location)[:100]}")
    named = f"{location.get('subfolder') or ''}/{location.get('filename')}"
    try:
        root = output_directory.resolve(strict=True)
        path = (
            root / str(location.get("subfolder") or "") / str(location.get("filename"))
        ).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise TransferError(
            f"{named[:200]} cannot be found: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not path.is_relative_to(root) or not path.is_file():
        raise TransferError(f"{named[:200]} is outside the output folder, or is not a file")
    return path


def check_record(record: ImageRecord, plan: AnyPlan, *, attempt: int = 0) -> None:
    """Compares a server's record with the planned row, at this attempt.

    Raises:
        ServerRefused: they differ, so the server's nodes plan differently from this client.
    """
    advice = "the server's SynthGrid nodes and this client have different versions; update both"
    if record.plan_id != plan.plan_id:
        raise ServerRefused(f"the server made plan {record.plan_id}, not {plan.plan_id}; {advice}")
    if not 0 <= record.index < len(plan):
        raise ServerRefused(
            f"the server made row {record.index}, but the plan has {len(plan)} rows; {advice}"
        )
    row = plan.row(record.index, attempt=attempt)
    for name in (
        "attempt",
        "label",
        "prompt",
        "negative_prompt",
        "seed",
        "template",
        "context",
        "style",
        "strength",
    ):
        if getattr(record, name) != portable(getattr(row, name)):
            raise ServerRefused(
                f"row {row.index}: the server has {name} {getattr(record, name)!r}, "
                f"the plan has {getattr(row, name)!r}; " + advice
            )
    if record.file_name not in image_file_names(row.label, plan.plan_id, row.index):
        raise ServerRefused(
            f"row {row.index}: the server names its file '{record.file_name}'; {advice}"
        )


def check_image(data: bytes, record: ImageRecord) -> None:
    """Checks that the bytes are the complete image of the record, with the checks of `verify`.

    These are hash, decoding, width and height, folder, and every field of the record inside. What
    `verify` would refuse later is therefore never saved.

    Raises:
        TransferError: they are not.
    """
    if sha256_of(data) != record.sha256:
        raise TransferError(
            f"{record.file_name} arrived with other bytes than the server saved ({len(data)} bytes)"
        )
    found = ImageChecker(Path(), None).check_data(record.file_name, record, data).problems
    if found:
        raise TransferError(
            f"{record.file_name}: the server's record and file do not agree: {found[0].detail}"
        )
