"""Runs one prompt: its nodes in order, with V1 semantics, and reports what happens.

Nodes run one after another, each when what it needs is there; nothing is remembered from prompt to
prompt. Lazy inputs run only when `check_lazy_status` asks for them, a node may add nodes
("expand") or return an ExecutionBlocker, and may be a coroutine.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from .. import runtime
from ..blocking import ExecutionBlocker
from ..registry import input_spec, is_link, is_output
from .calls import Returned, by_output, call_over_lists, read_returns
from .live_prompt import LivePrompt
from .prompt import Outcome, QueuedPrompt
from .validation import type_name

log = logging.getLogger(__name__)

Send = Callable[[str, "dict[str, Any] | bytes", "str | None"], None]
_LONGEST_VALUE = 2000  # characters of an input's value in an error report
_MOST_REPORTED = 100  # nodes in a progress_state event, so that long prompts send no squares


class PromptExecution:
    """One run of one prompt. `send(event, data, client_id)` gets everything, on this thread."""

    def __init__(self, item: QueuedPrompt, classes: Mapping[str, type], send: Send) -> None:
        self.item = item
        self.prompt = LivePrompt(item.prompt)
        self.classes: Mapping[str, Any] = classes
        self.outcome = Outcome()
        self._send = send
        self._results: dict[str, list[list[Any]]] = {}
        self._progress: dict[str, dict[str, Any]] = {}
        self._begun: dict[str, _Node] = {}

    def run(self) -> Outcome:
        """Runs to the end, the first error, or an interruption. Never raises a node's error."""
        runtime.interrupt.clear()
        self._message("execution_start", {})
        self._message("execution_cached", {"nodes": []})
        for output in self.item.outputs:
            if not self._run_with_needs(output):
                break
        else:
            self.outcome.succeeded = True
            self._message("execution_success", {})
        return self.outcome

    def _message(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Keeps a status message for the history, and sends it to the client of the prompt."""
        data = {**data, "prompt_id": self.item.prompt_id, "timestamp": int(time.time() * 1000)}
        self.outcome.messages.append((event, data))
        if self.item.client_id is not None or to_all:
            self._send(event, data, self.item.client_id)

    def _run_with_needs(self, output: str) -> bool:
        """Runs a node after all that it needs; returns whether everything succeeded.

        A node stays in the list until it has a result: it may ask for more inputs, or add nodes.
        """
        waiting = [output]
        while waiting:
            node_id = waiting[-1]
            if node_id in self._results:
                waiting.pop()
                continue
            inputs: dict[str, list[Any]] = {}
            try:
                needs = self._needs(node_id)
                if not needs:
                    self._step(node_id, inputs)
            except runtime.Interrupted:
                self._report_interruption(node_id)
                return False
            except Exception as error:
                self._report_failure(node_id, inputs, error)
                return False
            finally:
                runtime.listen()
            waiting += reversed(needs)
        return True

    def _needs(self, node_id: str) -> list[str]:
        """The nodes that must run before this one goes on. Raises ValueError if there is a circle:
        among the nodes that a node has added, which nobody has validated.
        """
        state = self._begun.get(node_id)
        if state is None:
            node = self.prompt.get_node(node_id)
            state = self._begun[node_id] = _Node(node, self.classes[node["class_type"]])
        needs = [each for each in state.needs if each not in self._results]
        state.needs = []
        for each in needs:
            if each in self._begun:
                raise ValueError(f"Dependency cycle detected: {node_id} and {each} need each other")
        return list(dict.fromkeys(needs))

    def _step(self, node_id: str, inputs: dict[str, list[Any]]) -> None:
        """Runs a node as far as it goes: to its results, or until it needs other nodes.

        Fills `inputs` for the error report.
        """
        state = self._begun[node_id]
        if state.returned is None:
            if not state.started:
                self._report_progress(node_id, "running", 0.0, 1.0)
            inputs.update(self._gather(node_id, state))
            if not state.started:
                self._tell("executing", self._names(node_id))
            state.started = True
            state.needs = state.ask_for_lazy(inputs)
            if not state.needs:
                self._call(node_id, state, inputs)
        if state.needs or state.returned is None:
            return
        results = state.returned.results
        if state.returned.expands:
            pairs = zip(results, state.returned.graphs, strict=True)
            results = [self._resolved(*each) for each in pairs]
        self._results[node_id] = by_output(results, state.node_class)
        del self._begun[node_id]
        total = self._progress.get(node_id, {"max": 1.0})["max"]
        self._report_progress(node_id, "finished", total, total)

    def _call(self, node_id: str, state: _Node, inputs: dict[str, list[Any]]) -> None:
        runtime.listen(
            lambda value, total: self._on_progress(node_id, value, total),
            lambda png: self._send("image", png, self.item.client_id),
        )
        returned = call_over_lists(
            state.instance, inputs, on_blocked=lambda blocker: self._blocked(node_id, blocker)
        )
        state.returned = read_returns(returned, state.node_class)
        if state.returned.ui:
            self._report_ui(node_id, state.returned.ui)
        for graph, result in zip(state.returned.graphs, state.returned.results, strict=True):
            if graph is None:
                continue
            for node in graph.values():
                if node["class_type"] not in self.classes:
                    raise ValueError(f"it adds a node {node['class_type']}, which does not exist")
            self.prompt.add(graph, node_id)
            state.needs += [value[0] for value in result if is_link(value)]
            state.needs += [
                each for each, node in graph.items() if is_output(self.classes[node["class_type"]])
            ]

    def _blocked(self, node_id: str, blocker: Any) -> ExecutionBlocker:
        """What a call that is not made counts as; its reason is told once, not to those behind."""
        if blocker.message is not None:
            data = {
                "prompt_id": self.item.prompt_id,
                "node_id": node_id,
                "node_type": self.prompt.get_node(node_id)["class_type"],
                "executed": list(self._results),
                "exception_message": f"Execution Blocked: {blocker.message}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            self._tell("execution_error", data)
        return ExecutionBlocker(None)

    def _resolved(self, result: Any, graph: Any) -> tuple[Any, ...]:
        """The outputs of a call, with links to added nodes replaced by what these delivered."""
        if graph is None:
            return tuple(result)
        values: list[Any] = []
        for each in result:
            values += self._results[each[0]][int(each[1])] if is_link(each) else [each]
        return tuple(values)

    def _gather(self, node_id: str, state: _Node) -> dict[str, list[Any]]:
        """Input name -> list of values: what its link delivered, or the one typed-in value.

        None stands for an input that nobody has asked for, and for an output that is not there.
        """
        gathered: dict[str, list[Any]] = {}
        for name, value in state.inputs.items():
            if is_link(value) and not state.takes_raw(name):
                outputs, place = self._results.get(value[0], []), int(value[1])
                gathered[name] = outputs[place] if place < len(outputs) else [None]
            elif input_spec(state.declared, name):
                gathered[name] = [value]
        hidden = {
            "PROMPT": self.prompt.get_original_prompt(),
            "DYNPROMPT": self.prompt,
            "EXTRA_PNGINFO": self.item.extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
            "AUTH_TOKEN_COMFY_ORG": None,
            "API_KEY_COMFY_ORG": None,
        }
        for name, entry in state.declared.get("hidden", {}).items():
            kind = entry if isinstance(entry, str) else entry[0]
            if kind in hidden:  # of any other kind, it is what the prompt says
                gathered[name] = [hidden[kind]]
        return gathered

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        """Sends an event to the client of the prompt, if there is one; the history keeps none."""
        if self.item.client_id is not None:
            self._send(event, data, self.item.client_id)

    def _names(self, node_id: str) -> dict[str, Any]:
        return {
            "node": node_id,
            "display_node": self.prompt.get_display_node_id(node_id),
            "prompt_id": self.item.prompt_id,
        }

    def _failure(self, node_id: str) -> dict[str, Any]:
        real = self.prompt.get_real_node_id(node_id)
        return {
            "node_id": real,
            "node_type": self.prompt.get_node(real)["class_type"],
            "executed": list(self._results),
        }

    def _report_interruption(self, node_id: str) -> None:
        log.info("prompt %s was interrupted in node %s", self.item.prompt_id, node_id)
        self._message("execution_interrupted", self._failure(node_id), to_all=True)

    def _report_failure(
        self, node_id: str, inputs: Mapping[str, list[Any]], error: Exception
    ) -> None:
        failure = self._failure(node_id)
        log.warning("node %s (%s) failed: %s", node_id, failure["node_type"], error)
        log.debug("where it failed", exc_info=error)
        failure |= {
            "exception_message": f"{error}\n",
            "exception_type": type_name(error),
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {
                name: [_shown(value) for value in values] for name, values in inputs.items()
            },
            "current_outputs": list(self._results),
        }
        self._message("execution_error", failure)

    def _report_ui(self, node_id: str, ui: dict[str, Any]) -> None:
        json.dumps(ui)  # not JSON: this node's error now, not one of every later GET /history
        names = self._names(node_id)
        self.outcome.outputs[node_id] = ui
        self.outcome.meta[node_id] = {
            "node_id": node_id,
            "display_node": names["display_node"],
            "parent_node": self.prompt.get_parent_node_id(node_id),
            "real_node_id": self.prompt.get_real_node_id(node_id),
        }
        self._tell("executed", names | {"output": ui})

    def _on_progress(self, node_id: str, value: float, total: float) -> None:
        self._report_progress(node_id, "running", value, total)
        data = {"value": value, "max": total, "prompt_id": self.item.prompt_id, "node": node_id}
        self._send("progress", data, self.item.client_id)

    def _report_progress(self, node_id: str, state: str, value: float, total: float) -> None:
        """Sends progress_state, which lists the nodes that have started: the newest of them."""
        self._progress[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": self.prompt.get_display_node_id(node_id),
            "parent_node_id": self.prompt.get_parent_node_id(node_id),
            "real_node_id": self.prompt.get_real_node_id(node_id),
        }
        if len(self._progress) > _MOST_REPORTED:
            del self._progress[next(iter(self._progress))]
        data = {"prompt_id": self.item.prompt_id, "nodes": dict(self._progress)}
        self._send("progress_state", data, self.item.client_id)


class _Node:
    """A node that has begun. `needs` are nodes that it waits for, as far as known."""

    def __init__(self, node: Mapping[str, Any], node_class: Any) -> None:
        self.node_class = node_class
        self.inputs: Mapping[str, Any] = node["inputs"]
        self.declared = node_class.INPUT_TYPES()
        self.started = False
        self.returned: Returned | None = None
        self._lazy = {
            name: value[0]
            for name, value in self.inputs.items()
            if is_link(value) and self._option(name, "lazy")
        }
        self.needs: list[str] = [
            value[0]
            for name, value in self.inputs.items()
            if is_link(value) and not self.takes_raw(name) and name not in self._lazy
        ]
        self.instance = node_class()

    def _option(self, name: str, option: str) -> bool:
        spec = input_spec(self.declared, name)
        return spec is not None and bool(spec[2].get(option))

    def takes_raw(self, name: str) -> bool:
        """Whether an input wants its link itself, not what the link delivers."""
        return self._option(name, "rawLink")

    def ask_for_lazy(self, inputs: Mapping[str, list[Any]]) -> list[str]:
        """The nodes behind the lazy inputs that `check_lazy_status` asks for now.

        Raises ValueError if it asks for an input that the node does not have.
        """
        if not hasattr(self.instance, "check_lazy_status"):
            return []
        answers = call_over_lists(self.instance, inputs, "check_lazy_status")
        asked = {name for each in answers if isinstance(each, list) for name in each}
        for name in asked - set(inputs):
            raise ValueError(f"check_lazy_status asks for '{name}', which is no input of the node")
        return [self._lazy.pop(name) for name in list(self._lazy) if name in asked]


def _shown(value: Any) -> Any:
    """An input's value in an error report: plain values as they are, others described."""
    if value is None or isinstance(value, (int, float, str)):
        return value
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    return str(value)[:_LONGEST_VALUE]
