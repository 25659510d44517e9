"""Runs one prompt: its nodes in order, with V1 semantics, and reports what happens.

Not supported, because no node of the engine needs it: lazy inputs (they are evaluated like any
other), nodes that expand into other nodes, coroutine nodes, and ExecutionBlocker.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from . import runtime
from .prompt_queue import Outcome, QueuedPrompt
from .registry import input_spec, is_link
from .validation import type_name

log = logging.getLogger(__name__)

Send = Callable[[str, dict[str, Any], "str | None"], None]
_LONGEST_VALUE = 2000  # characters of an input's value in an error report


class PromptExecution:
    """One run of one prompt. `send(event, data, client_id)` gets everything, on this thread."""

    def __init__(self, item: QueuedPrompt, classes: Mapping[str, type], send: Send) -> None:
        self.item = item
        self.prompt = item.prompt
        self.classes: Mapping[str, Any] = classes
        self.outcome = Outcome()
        self._send = send
        self._results: dict[str, list[list[Any]]] = {}
        self._progress: dict[str, dict[str, Any]] = {}

    def run(self) -> Outcome:
        """Runs to the end, the first error, or an interruption. Never raises a node's error."""
        runtime.interrupt.clear()
        self._message("execution_start", {})
        self._message("execution_cached", {"nodes": []})
        for node_id in execution_order(self.prompt, self.item.outputs):
            if not self._run_and_report(node_id):
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

    def _run_and_report(self, node_id: str) -> bool:
        """Returns whether the node succeeded."""
        inputs: dict[str, list[Any]] = {}
        failure = {
            "node_id": node_id,
            "node_type": self.prompt[node_id]["class_type"],
            "executed": list(self._results),
        }
        try:
            self._run_node(node_id, inputs)
        except runtime.Interrupted:
            log.info("prompt %s was interrupted in node %s", self.item.prompt_id, node_id)
            self._message("execution_interrupted", failure, to_all=True)
            return False
        except Exception as error:
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
            return False
        finally:
            runtime.on_progress(None)
        return True

    def _run_node(self, node_id: str, inputs: dict[str, list[Any]]) -> None:
        """Runs a node once per element of its input lists; fills `inputs` for the error report."""
        node_class = self.classes[self.prompt[node_id]["class_type"]]
        self._report_progress(node_id, "running", 0.0, 1.0)
        inputs.update(self._gather(node_id, node_class))
        if self.item.client_id is not None:
            data = {"node": node_id, "display_node": node_id, "prompt_id": self.item.prompt_id}
            self._send("executing", data, self.item.client_id)
        runtime.on_progress(lambda value, total: self._on_progress(node_id, value, total))
        returned = call_over_lists(node_class(), inputs)
        self._results[node_id], ui = split_returns(returned, node_class)
        if ui:
            self._report_ui(node_id, ui)
        state = self._progress[node_id]
        self._report_progress(node_id, "finished", state["max"], state["max"])

    def _gather(self, node_id: str, node_class: Any) -> dict[str, list[Any]]:
        """Input name -> list of values: what its link delivered, or the one typed-in value."""
        declared = node_class.INPUT_TYPES()
        gathered: dict[str, list[Any]] = {}
        for name, value in self.prompt[node_id]["inputs"].items():
            if is_link(value):
                gathered[name] = self._results[value[0]][int(value[1])]
            elif input_spec(declared, name):
                gathered[name] = [value]
        hidden = {
            "PROMPT": self.prompt,
            "EXTRA_PNGINFO": self.item.extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
        }
        for name, entry in declared.get("hidden", {}).items():
            kind = entry if isinstance(entry, str) else entry[0]
            gathered[name] = [hidden.get(kind)]
        return gathered

    def _report_ui(self, node_id: str, ui: dict[str, Any]) -> None:
        json.dumps(ui)  # not JSON: this node's error now, not one of every later GET /history
        self.outcome.outputs[node_id] = ui
        self.outcome.meta[node_id] = {
            "node_id": node_id,
            "display_node": node_id,
            "parent_node": None,
            "real_node_id": node_id,
        }
        if self.item.client_id is not None:
            data = {
                "node": node_id,
                "display_node": node_id,
                "output": ui,
                "prompt_id": self.item.prompt_id,
            }
            self._send("executed", data, self.item.client_id)

    def _on_progress(self, node_id: str, value: int, total: int) -> None:
        self._report_progress(node_id, "running", value, total)
        data = {"value": value, "max": total, "prompt_id": self.item.prompt_id, "node": node_id}
        self._send("progress", data, self.item.client_id)

    def _report_progress(self, node_id: str, state: str, value: float, total: float) -> None:
        """Sends progress_state, which lists every node that has started."""
        self._progress[node_id] = {
            "value": value,
            "max": total,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        data = {"prompt_id": self.item.prompt_id, "nodes": dict(self._progress)}
        self._send("progress_state", data, self.item.client_id)


def execution_order(prompt: Mapping[str, Any], outputs: list[str]) -> list[str]:
    """The nodes that the outputs need, each after its own inputs, one output after another.

    The prompt has been validated, so there is no cycle.
    """
    order: dict[str, None] = {}
    opened: set[str] = set()
    stack = [(node_id, False) for node_id in reversed(outputs)]
    while stack:
        node_id, needs_are_done = stack.pop()
        if needs_are_done:
            order[node_id] = None
            continue
        if node_id in opened:
            continue
        opened.add(node_id)
        stack.append((node_id, True))
        links = [value[0] for value in prompt[node_id]["inputs"].values() if is_link(value)]
        stack += [(needed, False) for needed in reversed(links)]
    return list(order)


def call_over_lists(node: Any, inputs: Mapping[str, list[Any]]) -> list[Any]:
    """Calls the node's FUNCTION once per place of its longest input list.

    A shorter list repeats its last value. A node with INPUT_IS_LIST is called once, with whole
    lists.
    """
    function = getattr(node, node.FUNCTION)
    if getattr(node, "INPUT_IS_LIST", False):
        runtime.stop_if_interrupted()
        return [function(**inputs)]
    longest = max((len(values) for values in inputs.values()), default=0)
    if longest == 0:  # no inputs, or only empty lists: one call without arguments, as in ComfyUI
        inputs, longest = {}, 1
    returned = []
    for place in range(longest):
        runtime.stop_if_interrupted()
        arguments = {name: values[min(place, len(values) - 1)] for name, values in inputs.items()}
        returned.append(function(**arguments))
    return returned


def split_returns(returned: list[Any], node_class: Any) -> tuple[list[list[Any]], dict[str, Any]]:
    """A node's returned values -> (a list of values per output, the ui output of all calls).

    An output that OUTPUT_IS_LIST marks delivers the elements of its lists, any other one value per
    call.
    """
    results, uis = [], []
    for value in returned:
        if isinstance(value, dict):
            if "expand" in value:
                raise NotImplementedError(
                    "this engine does not run nodes that expand into other nodes; use ComfyUI"
                )
            if "ui" in value:
                uis.append(value["ui"])
            if "result" in value:
                results.append(value["result"])
        else:
            results.append(value)
    ui = {key: [each for one in uis for each in one[key]] for key in uis[0]} if uis else {}
    if not results:
        return [], ui
    is_list = getattr(node_class, "OUTPUT_IS_LIST", [False] * len(results[0]))
    outputs: list[list[Any]] = []
    for place, flattened in zip(range(len(results[0])), is_list, strict=False):
        values = [result[place] for result in results]
        outputs.append([each for value in values for each in value] if flattened else values)
    return outputs, ui


def _shown(value: Any) -> Any:
    """An input's value in an error report: plain values as they are, others described."""
    if value is None or isinstance(value, (int, float, str)):
        return value
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    return str(value)[:_LONGEST_VALUE]
