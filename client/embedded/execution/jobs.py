"""Prompts as jobs, as /api/jobs describes them since ComfyUI 0.33.0."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from .prompt import Outcome, QueuedPrompt

_LONGEST_TEXT = 1024  # characters of a text shown as a job's preview
_MEDIA = {"images", "video", "audio", "3d", "text"}
_MODELS_3D = (".obj", ".fbx", ".gltf", ".glb", ".usdz")
_TEXTS = (".txt", ".md", ".json")
_ENDS = {"execution_success", "execution_error", "execution_interrupted"}


class JobState(str, Enum):
    """The states of a job, in ComfyUI's spelling."""

    PENDING = "pending"
    RUNNING = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """One job: what it is filtered and sorted by, and its description as JSON.

    `created` and `duration` are in milliseconds.
    """

    id: str
    state: JobState
    created: int
    duration: int
    workflow_id: Any
    text: str

    def as_running(self) -> Job:
        """The same job, which runs now."""
        described = json.loads(self.text) | {"status": JobState.RUNNING.value}
        return replace(self, state=JobState.RUNNING, text=json.dumps(described))


def waiting_job(item: QueuedPrompt) -> Job:
    """The job of a prompt that waits."""
    info = item.extra_data.get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, dict) else None
    workflow_id = workflow.get("id") if isinstance(workflow, dict) else None
    created = item.extra_data.get("create_time")
    described = {
        "id": item.prompt_id,
        "status": JobState.PENDING.value,
        "priority": item.number,
        "create_time": created,
        "outputs_count": 0,
        "previewable_outputs_count": 0,
        "workflow_id": workflow_id,
    }
    return Job(item.prompt_id, JobState.PENDING, created or 0, 0, workflow_id, _json(described))


def finished_job(job: Job, outcome: Outcome) -> Job:
    """The job of a prompt that has ended."""
    state = JobState.COMPLETED if outcome.succeeded else JobState.FAILED
    started = ended = failure = None
    for event, data in outcome.messages:
        started = data["timestamp"] if event == "execution_start" else started
        if event in _ENDS:
            ended = data["timestamp"]
        if event == "execution_error":
            failure = data
        if event == "execution_interrupted":
            state = JobState.CANCELLED
    shown = list(_items(outcome.outputs))
    described = json.loads(job.text) | {
        "status": state.value,
        "execution_start_time": started,
        "execution_end_time": ended,
        "execution_error": failure,
        "outputs_count": sum(isinstance(item, dict) for _, _, item in shown),
        "previewable_outputs_count": sum(
            isinstance(item, dict) and _is_previewable(kind, item) for _, kind, item in shown
        ),
        "preview_output": _preview(shown),
    }
    duration = ended - started if started and ended else 0
    return replace(job, state=state, duration=duration, text=_json(described))


def full_description(job: Job, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What GET /api/jobs/ID tells of a finished job; `entry` is its entry of the history."""
    _, _, prompt, extra_data, _ = entry["prompt"]
    return json.loads(job.text) | {
        "outputs": {node_id: _normal(outputs) for node_id, outputs in entry["outputs"].items()},
        "execution_status": entry["status"],
        "workflow": {"prompt": prompt, "extra_data": extra_data},
    }


@dataclass(frozen=True)
class JobQuery:
    """What GET /api/jobs asks for."""

    states: frozenset[JobState] = frozenset(JobState)
    workflow_id: str | None = None
    by_duration: bool = False
    newest_first: bool = True
    limit: int | None = None
    offset: int = 0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> JobQuery:
        """Reads the parameters. Raises ValueError in the words with which ComfyUI refuses them."""
        order = query.get("sort_order", "desc").lower()
        key = query.get("sort_by", "created_at").lower()
        states = _states(query.get("status", ""))
        if key not in ("created_at", "execution_duration"):
            raise ValueError("sort_by must be 'created_at' or 'execution_duration'")
        if order not in ("asc", "desc"):
            raise ValueError("sort_order must be 'asc' or 'desc'")
        limit = _integer(query, "limit")
        if limit is not None and limit <= 0:
            raise ValueError("limit must be a positive integer")
        return cls(
            states,
            query.get("workflow_id") or None,
            key == "execution_duration",
            order == "desc",
            limit,
            max(_integer(query, "offset") or 0, 0),
        )

    def answer(self, jobs: Iterable[Job]) -> str:
        """The answer as JSON: the jobs that are asked for, and which part of them this is."""
        found = [
            job
            for job in jobs
            if job.state in self.states and self.workflow_id in (None, job.workflow_id)
        ]
        found.sort(
            key=lambda job: job.duration if self.by_duration else job.created,
            reverse=self.newest_first,
        )
        end = None if self.limit is None else self.offset + self.limit
        page = found[self.offset : end]
        pagination = {
            "offset": self.offset,
            "limit": self.limit,
            "total": len(found),
            "has_more": self.offset + len(page) < len(found),
        }
        texts = ", ".join(job.text for job in page)
        return f'{{"jobs": [{texts}], "pagination": {json.dumps(pagination)}}}'


def wrong_ids(job_ids: Iterable[Any]) -> list[str]:
    """Those of the ids that are no UUIDs in lower case with hyphens."""
    return [each if isinstance(each, str) else repr(each) for each in job_ids if not _is_id(each)]


def _is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _states(listed: str) -> frozenset[JobState]:
    if not listed:
        return frozenset(JobState)
    names = [each.strip().lower() for each in listed.split(",") if each.strip()]
    known = [state.value for state in JobState]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"Invalid status value(s): {', '.join(unknown)}. Valid values: {', '.join(known)}"
        )
    return frozenset(map(JobState, names))


def _integer(query: Mapping[str, str], name: str) -> int | None:
    try:
        return int(query[name]) if name in query else None
    except ValueError:
        raise ValueError(f"{name} must be an integer") from None


def _items(outputs: Mapping[str, Any]) -> Iterable[tuple[str, str, Any]]:
    """(node id, kind, item) of what nodes have shown; a file named by a bare text is an object."""
    for node_id, kinds in outputs.items():
        for kind, items in kinds.items() if isinstance(kinds, dict) else ():
            if kind != "animated" and isinstance(items, list):
                yield from ((node_id, kind, _file_of(item)) for item in items)


def _file_of(item: Any) -> Any:
    if isinstance(item, str) and item.lower().endswith(_MODELS_3D):
        return {"filename": item, "type": "output", "subfolder": "", "mediaType": "3d"}
    return item


def _normal(outputs: Any) -> Any:
    if not isinstance(outputs, dict):
        return outputs
    return {
        kind: [_file_of(item) for item in items if item is not None]
        if isinstance(items, list) and kind != "animated"
        else items
        for kind, items in outputs.items()
    }


def _is_previewable(kind: str, item: Mapping[str, Any]) -> bool:
    name = str(item.get("filename") or "").lower()
    plays = str(item.get("format") or "").startswith(("video/", "audio/"))
    return kind in _MEDIA or plays or name.endswith(_MODELS_3D + _TEXTS)


def _preview(shown: Sequence[tuple[str, str, Any]]) -> dict[str, Any] | None:
    """The item to show for a job: a saved picture before a temporary one, then a text file, then a
    text.
    """
    best: dict[int, dict[str, Any]] = {}
    for node_id, kind, item in shown:
        if isinstance(item, dict):
            if not _is_previewable(kind, item):
                continue
            is_text = kind == "text" or str(item.get("filename") or "").lower().endswith(_TEXTS)
            rank = 2 if is_text else 0 if item.get("type") == "output" else 1
            best.setdefault(rank, {"mediaType": kind} | item | {"nodeId": node_id})
        elif kind == "text" and item is not None:
            text = str(item[0] if isinstance(item, (list, tuple)) and item else item)
            cut = {"truncated": True} if len(text) > _LONGEST_TEXT else {}
            content = {"content": text[:_LONGEST_TEXT]}
            best.setdefault(3, content | cut | {"nodeId": node_id, "mediaType": kind})
    return best[min(best)] if best else None


def _json(described: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in described.items() if value is not None})
