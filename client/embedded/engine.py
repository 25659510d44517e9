"""The engine behind the routes: takes prompts in and runs them one by one on its own thread."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
import uuid
from typing import Any

from comfy_nodes.graph import queued

from . import runtime
from .execution.prompt import Outcome, QueuedPrompt
from .execution.queue import PromptQueue
from .execution.running import PromptExecution, Send
from .execution.validation import Verdict, validate_prompt
from .registry import Registry

log = logging.getLogger(__name__)

_IDLE_S = 0.5  # how often an idle worker looks for POST /free and for the end


class Engine:
    """Registry, queue and worker. `send(event, data, client_id)` must be safe on any thread."""

    def __init__(self, registry: Registry, send: Send) -> None:
        self.registry = registry
        self.queue = PromptQueue(self._tell_status)
        self._send = send
        self._next_number = 0
        self._free = threading.Event()
        self._stop = threading.Event()
        self._numbering = threading.Lock()
        self._loaded = threading.Event()
        self._worker = threading.Thread(target=self._work, name="nodes", daemon=True)

    def start(self) -> None:
        """Starts the worker."""
        self._worker.start()

    def stop(self, *, timeout_s: float) -> None:
        """Interrupts the running prompt and waits up to `timeout_s` for the worker to end.

        While it only loads libraries, which nothing can stop, it is not waited for.
        """
        self._stop.set()
        runtime.interrupt.set()
        if self._worker.is_alive() and self._loaded.is_set():
            self._worker.join(timeout_s)

    def is_busy(self) -> bool:
        """Whether the worker is at work, or was when it was stopped and still is."""
        return self._worker.is_alive()

    def is_loading(self) -> bool:
        """Whether the worker still loads libraries and has run no node."""
        return not self._loaded.is_set()

    def status(self) -> dict[str, Any]:
        """What every status event says."""
        return {"exec_info": {"queue_remaining": self.queue.remaining()}}

    def submit(self, body: dict[str, Any]) -> tuple[QueuedPrompt | None, Verdict]:
        """Validates and queues the body of a POST /prompt that has a "prompt"; on any thread.

        Raises:
            TypeError, ValueError, AttributeError: the body is malformed in a way that no error type
                describes.
            EmbeddedError: a prompt with this id and number is already waiting.
        """
        number = self._number(body)
        prompt, extra_data = body["prompt"], dict(body.get("extra_data", {}))
        queued.remember(body)
        verdict = validate_prompt(
            prompt, self.registry.classes, body.get("partial_execution_targets")
        )
        if verdict.error is not None:
            return None, verdict
        client_id = body.get("client_id", extra_data.get("client_id"))
        if client_id is not None:
            extra_data["client_id"] = str(client_id)
        extra_data["create_time"] = int(time.time() * 1000)
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        item = QueuedPrompt(number, prompt_id, prompt, extra_data, verdict.outputs)
        self.queue.put(item)
        return item, verdict

    def interrupt(self, prompt_id: str | None) -> None:
        """Stops the running prompt; with an id, only if it is that prompt."""
        if not prompt_id:
            runtime.interrupt.set()
        else:
            self.queue.if_running(prompt_id, runtime.interrupt.set)

    def cancel(self, prompt_id: str) -> bool:
        """Stops a prompt if it runs, takes it away if it waits; returns whether it did either."""
        if self.queue.delete([prompt_id]):
            return True
        return self.queue.if_running(prompt_id, runtime.interrupt.set)

    def free(self) -> None:
        """Makes the worker free the loaded checkpoint's memory before the next prompt."""
        self._free.set()

    def _number(self, body: dict[str, Any]) -> float:
        """The prompt's place: as requested, or first come first served, or before all so far."""
        if "number" in body:
            number = float(body["number"])
            if not math.isfinite(number):  # no JSON could say it in /queue
                raise ValueError(f"number is {number}; expected a finite number")
            return number
        with self._numbering:
            number = self._next_number
            self._next_number += 1
        return -number if body.get("front") else number

    def _tell_status(self) -> None:
        self._send("status", {"status": self.status()}, None)

    def _work(self) -> None:
        import torch  # here, so that the server answers while this takes its seconds

        self._loaded.set()
        while not self._stop.is_set():
            item = self.queue.take(timeout_s=_IDLE_S)
            if item is not None:
                with torch.inference_mode():
                    self._run(item)
            if self._free.is_set():
                self._free.clear()
                _forget_checkpoint()

    def _run(self, item: QueuedPrompt) -> None:
        """Runs one prompt and files it, whatever happens: the worker must survive."""
        started = time.perf_counter()
        execution = PromptExecution(item, self.registry.classes, self._send)
        try:
            outcome = execution.run()
        except Exception:
            log.exception("prompt %s could not be executed", item.prompt_id)
            outcome = Outcome(messages=execution.outcome.messages)
        del execution
        self.queue.finish(outcome)
        if item.client_id is not None:
            self._send("executing", {"node": None, "prompt_id": item.prompt_id}, item.client_id)
        log.info("prompt %s took %.2f s", item.prompt_id, time.perf_counter() - started)


def _forget_checkpoint() -> None:
    from .diffusion.checkpoints import forget

    forget()
    gc.collect()
