"""An OpenAI-compatible chat endpoint: Ollama, LM Studio, llama.cpp, vLLM, or a cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ServerRefused
from ..server.access import Access
from ..server.transport import Transport
from .answers import Answer

_BUSY = (408, 429, 500, 502, 503, 504)  # HTTP statuses after which waiting helps
_PAUSES_S = (1.0, 4.0, 15.0)
_SHOWN = 200  # characters of what a server says


class ChatEndpoint:
    """Questions to one model. `url` ends in /v1 or is the address before it."""

    def __init__(
        self,
        url: str,
        *,
        access: Access | None = None,
        pauses_s: tuple[float, ...] = _PAUSES_S,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_request` is called before every request, also a repeated one; it may refuse."""
        self._transport = Transport(url, access=access)
        has_version = self._transport.base_url.rstrip("/").endswith("/v1")
        self._path = "/chat/completions" if has_version else "/v1/chat/completions"
        self._pauses_s = pauses_s
        self._on_request = on_request
        self._takes_schema = True

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def ask(self, question: Mapping[str, Any], *, max_tokens: int) -> Answer:
        """The model's answer.

        A server that refuses the schema is asked without it: what comes is checked in any case.

        Raises:
            ServerUnreachable: no answer.
            ServerRefused: the server says no, or its answer is not a chat completion.
        """
        body = {
            "model": question["model"],
            "messages": question["messages"],
            "temperature": question["temperature"],
            "seed": question["seed"] + question["sample"],
            "max_tokens": max_tokens,
            "stream": False,
        }
        if self._takes_schema:
            schema = {"name": "bank", "strict": True, "schema": question["schema"]}
            format_ = {"type": "json_schema", "json_schema": schema}
            status, value = self._post(body | {"response_format": format_})
            if status not in (400, 422, 501):
                return self._answer(status, value)
            self._takes_schema = False
        return self._answer(*self._post(body))

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        for pause in (*self._pauses_s, None):
            self._on_request()
            status, value = self._transport.post_json(self._path, body)
            if status not in _BUSY or pause is None:
                break
            time.sleep(pause)
        return status, value

    def _answer(self, status: int, value: Any) -> Answer:
        shown = self._transport.shown_url
        if status != 200:
            said = str(self._transport.access.shown_value(value))[:_SHOWN]
            hint = {
                401: "; give its key with --token-env NAME",
                404: "; check the address and --model",
            }.get(status, "")
            raise ServerRefused(f"{shown} answers HTTP {status}: {said}{hint}", status=status)
        try:
            choice = value["choices"][0]
            message = choice["message"]
            text = message.get("content") or message.get("refusal") or ""
            reason = choice.get("finish_reason") or "stop"
        except (AttributeError, IndexError, KeyError, TypeError):
            text = reason = None
        if not isinstance(text, str) or not isinstance(reason, str):
            raise ServerRefused(
                f"{shown} did not answer with a chat completion; give the address of an "
                "OpenAI-compatible server, such as http://127.0.0.1:11434/v1"
            )
        return Answer(text, reason)
