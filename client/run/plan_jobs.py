"""The jobs of a plan: prompt ids, graphs, and images that are checked one by one. No threads.

A job's prompt id follows from what it makes. A client that was killed, or never got an answer,
therefore finds its job instead of posting it twice. An image counts only if its record and its
bytes are those of the planned row.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, sha256
from comfy_nodes.plan.attempts import rows_text

from ..folder.run_folder import RunFolder
from ..server.protocol import JobResult
from ..workflow.attempts import refuse_older_batcher
from ..workflow.preflight import check, refuse, validate
from ..workflow.roles import SAVER
from .dispatch.collect import check_record
from .dispatch.jobs import Job

log = logging.getLogger(__name__)

_MANY_ROWS = 10_000  # checked at a time
# Drawn at random once; keeps our prompt ids apart from everybody else's.
_NAMESPACE = uuid.UUID("6f3a3cf0-3c1e-5a5b-9d55-0c1b7f3b4a21")


class PlanWork:
    """The jobs of one folder's plan, or of a range of its rows. Only `save` and `missing_jobs`
    touch the folder."""

    def __init__(self, folder: RunFolder, rows: range | None = None) -> None:
        self.folder = folder
        self.workflow = folder.workflow
        self.plan = folder.plan
        self.rows = range(len(self.plan)) if rows is None else rows
        self._saver = self.workflow.only_id_of(SAVER)
        self._fingerprint = self.workflow.fingerprint
        self._size = self.workflow.batch_size
        self._warned: set[str] = set()
        self._given_up: Mapping[int, str] = {}

    def check(self, object_info: Mapping[str, Any], stats: Mapping[str, Any] | None = None) -> None:
        """Raises WorkflowError if a server with this /object_info cannot run the workflow.

        Before the run, with its /system_stats, memory and disk space are checked as well, and
        warnings are logged, once each.
        """
        if self.folder.made_again():
            refuse_older_batcher(object_info)
        if stats is None:
            validate(self.workflow, object_info)
            return
        missing = len(self.rows) - self.count()
        found = check(self.workflow, object_info, stats=stats, out=self.folder.root, images=missing)
        refuse(found)
        for each in found:
            if each.message not in self._warned:
                self._warned.add(each.message)
                log.warning("warning: %s", each.message)

    def give_up(self, used_up: Iterable[int]) -> Mapping[int, str]:
        """The missing images that get no jobs, with the reason, so that the others are made.

        Those are rows of which every attempt was rejected, `used_up`, and images whose place holds
        something else.
        """
        reasons = {
            index: f"a check rejected all {self.folder.attempt(index)} images made of it"
            for index in used_up
        }
        blocked = (
            "a damaged or foreign file has its name; move it out with: "
            f"synthgrid verify {self.folder.root} --repair"
        )
        reasons |= dict.fromkeys(sorted(self.folder.in_the_way()), blocked)
        reasons = {index: reason for index, reason in reasons.items() if index in self.rows}
        self._given_up = reasons
        return reasons

    def missing_jobs(self) -> Iterator[Job]:
        """A job for each batch that lacks images, in order, without those that are given up."""
        first, end = self.rows.start // self._size, -(-self.rows.stop // self._size)
        for batch_index in range(first, end):
            missing = [
                index
                for index in self.folder.missing(self._rows(batch_index))
                if index in self.rows and index not in self._given_up
            ]
            if missing:
                yield Job(batch_index, tuple(missing))

    def _rows(self, batch_index: int) -> range:
        start = batch_index * self._size
        return range(start, min(start + self._size, len(self.plan)))

    def _only(self, job: Job) -> str:
        return rows_text({index: self.folder.attempt(index) for index in job.indices})

    def prompt_id(self, job: Job) -> str:
        """The job's id on any server."""
        rows = self._only(job)
        run = f"{self.folder.run_id} {self._fingerprint}"
        name = f"{run} {self._size} {job.batch_index} {rows} {job.attempt}"
        return str(uuid.uuid5(_NAMESPACE, name))

    def graph(self, job: Job) -> dict[str, Any]:
        """The graph to post.

        It saves into a folder of its own per run and attempt, at the rows and at the job, so that
        no older image is taken for one that this job makes.
        """
        folder, only = f"synthgrid/{self.folder.run_id}", self._only(job)
        attempts = {self.folder.attempt(index) for index in job.indices}
        if attempts == {0}:
            only = only if len(job.indices) < len(self._rows(job.batch_index)) else ""
        else:
            digest = sha256(only.encode())[:8]
            folder += f"-r{attempts.pop() if len(attempts) == 1 else digest}"
        folder += f"-{job.attempt}" if job.attempt else ""
        return self.workflow.for_batch(job.batch_index, folder=folder, only=only)

    def label(self, index: int) -> str:
        """The class of a planned image."""
        return self.plan.label_of(index)

    def planned_by_class(self) -> Counter[str]:
        """How many images of each class there will be."""
        return Counter(self.plan.counts(self.rows))

    def missing_by_class(self) -> Counter[str]:
        """How many of these images of each class the folder lacks."""
        counts: Counter[str] = Counter()
        for start in range(self.rows.start, self.rows.stop, _MANY_ROWS):
            rows = range(start, min(start + _MANY_ROWS, self.rows.stop))
            counts.update(self.label(index) for index in self.folder.missing(rows))
        return counts

    def count(self) -> int:
        """How many of these images the folder has."""
        if len(self.rows) == len(self.plan):
            return self.folder.count()
        return len(self.rows) - self.missing_by_class().total()

    def entries(self, result: JobResult) -> dict[int, tuple[ImageRecord, Any]]:
        """Plan index -> (record, location of the image), for the records of planned rows.

        Raises:
            ServerRefused: a record is not the planned one.
        """
        output = result.outputs.get(self._saver)
        output = output if isinstance(output, Mapping) else {}
        records, images = output.get("synthgrid_records"), output.get("images")
        if (
            not isinstance(records, list)
            or not isinstance(images, list)
            or len(records) != len(images)
        ):
            log.debug("the saver returned no records: %r", output)
            return {}
        entries = {}
        for value, location in zip(records, images, strict=True):
            try:
                record = ImageRecord.from_dict(value)
            except LabelsetError as error:
                log.debug("%s", error)
                continue
            check_record(record, self.plan, attempt=self.folder.attempt(record.index))
            entries[record.index] = (record, location)
        return entries

    def save(self, record: ImageRecord, data: bytes) -> None:
        """Writes an image and its record; raises as `save_all` does."""
        self.save_all([(record, data)])

    def save_all(self, images: Sequence[tuple[ImageRecord, bytes]]) -> None:
        """Writes images and their records with one wait for the disk.

        Raises:
            LabelsetError: something has the place of one since, and none is written; or the folder
                cannot be written.
        """
        for record, _ in images:
            path = self.folder.labelled.find(record)
            if path is not None:
                raise LabelsetError(
                    f"{path} appeared during the run and is kept; move it out with: "
                    f"synthgrid verify {self.folder.root} --repair"
                )
        if images:
            self.folder.labelled.add_all(images)
