"""What a language model has answered, one JSON line each, so that no question is asked twice.

An answer is found by all that decides it: model, messages, schema, seed, temperature and sample. An
answer is on the disk before it is used, so a killed run asks nothing again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from comfy_nodes.labelset.files import append_durably

from ..errors import FolderError


@dataclass(frozen=True)
class Answer:
    """One answer: its text, and why the model stopped ("stop", "length", ...)."""

    text: str
    finish_reason: str


class Answers:
    """A file of answers. A last line that was cut off by a crash is removed when it is opened.

    Raises:
        FolderError: the file cannot be read, or has a line that is no answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Answer] = {}
        try:
            data = path.read_bytes() if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                with path.open("r+b") as file:
                    file.truncate(len(whole))
        except OSError as error:
            raise FolderError(f"cannot read {path}: {error.strerror or error}") from error
        for number, line in enumerate(whole.splitlines(), 1):
            key, answer = self._parsed(line, number)
            self._found[key] = answer

    def _parsed(self, line: bytes, number: int) -> tuple[str, Answer]:
        try:
            value = json.loads(line)
            key, text, reason = value["key"], value["text"], value["finish_reason"]
        except (ValueError, TypeError, KeyError, RecursionError):
            key = text = reason = None
        if not (isinstance(key, str) and isinstance(text, str) and isinstance(reason, str)):
            raise FolderError(
                f"{self.path} line {number} is not an answer of a model; remove the line, or give "
                "another --out"
            )
        return key, Answer(text, reason)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> Answer | None:
        """The answer to a question, if it was asked before."""
        return self._found.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keeps an answer. Raises FolderError if the disk does not take it."""
        line = json.dumps({"key": key, **asdict(answer)}, ensure_ascii=True) + "\n"
        try:
            append_durably(self.path, line.encode("ascii"))
        except OSError as error:
            raise FolderError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._found[key] = answer
