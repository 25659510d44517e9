"""Whether a posted prompt can run: the same checks, in the same words, as ComfyUI's POST /prompt.

Clients read the answer's `type` fields and people read the messages, so both are part of the
contract that tests/contract compares with a real server.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import runtime
from ..limits import MOST_NODES, MOST_PROBLEMS
from ..registry import input_spec, is_link, is_output

Problem = dict[str, Any]
_Check = Generator[str, "bool | None", bool]
_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_LONGEST_LISTING = 20


@dataclass
class Verdict:
    """`outputs` are the outputs that can run, `node_errors` says why others cannot.

    `error` is None if at least one output can run. `node_errors` names MOST_PROBLEMS nodes at most,
    and as many outputs that depend on each.
    """

    error: Problem | None = None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)


def validate_prompt(
    prompt: dict[str, Any], classes: Mapping[str, type], targets: Sequence[str] | None = None
) -> Verdict:
    """Checks every output node of a prompt in API format and all its inputs.

    Converts widget values in place. `targets`, if given, limits the outputs to these node ids.
    Takes time in proportion to the number of nodes and links.
    """
    if len(prompt) > MOST_NODES:
        message = f"The prompt has {len(prompt):,} nodes; this engine takes {MOST_NODES:,}."
        return Verdict(_problem("too_many_nodes", message, "Split it into several prompts."))
    outputs = []
    wanted = None if targets is None else set(targets)
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(_problem("invalid_prompt", message, f"Node ID '#{node_id}'"))
        if node["class_type"] not in classes:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return Verdict(_problem("invalid_prompt", message, f"Node ID '#{node_id}'"))
        if is_output(classes[node["class_type"]]) and (wanted is None or node_id in wanted):
            outputs.append(node_id)
    if not outputs:
        return Verdict(_problem("prompt_no_outputs", "Prompt has no outputs", ""))
    return _Validation(prompt, classes).check_outputs(outputs)


class _Validation:
    """The checks of one prompt. `valid` and `problems` hold the result of every node visited."""

    def __init__(self, prompt: dict[str, Any], classes: Mapping[str, type]) -> None:
        self.prompt = prompt
        self.classes: Mapping[str, Any] = classes
        self.valid: dict[str, bool] = {}
        self.problems: dict[str, list[Problem]] = {}
        self._blamed: dict[str, list[Problem]] = {}  # the first of those that have problems
        self._forms: dict[str, _Form] = {}

    def check_outputs(self, outputs: list[str]) -> Verdict:
        verdict, details, refused = Verdict(), [], 0
        for output in outputs:
            if self._is_valid_output(output):
                verdict.outputs.append(output)
                continue
            refused += 1
            if refused <= MOST_PROBLEMS:
                details += [
                    f"{each['message']}: {each['details']}"
                    for each in self.problems.get(output, [])
                ]
                self._blame(verdict, output)
        if not verdict.outputs:
            if refused > MOST_PROBLEMS:
                details.append(f"and {refused - MOST_PROBLEMS:,} more outputs")
            message = "Prompt outputs failed validation"
            verdict.error = _problem(
                "prompt_outputs_failed_validation", message, "\n".join(details)
            )
        return verdict

    def _blame(self, verdict: Verdict, output: str) -> None:
        """Adds an output to every node with a problem so far, as ComfyUI does."""
        for node_id, problems in self._blamed.items():
            entry = {
                "errors": problems,
                "dependent_outputs": [],
                "class_type": self.prompt[node_id]["class_type"],
            }
            verdict.node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)

    def _is_valid_output(self, output: str) -> bool:
        try:
            return self._judge(output)
        except Exception as error:
            message = "Exception when validating node"
            self._fail(output, "exception_during_validation", message, error)
            return False

    def _fail(self, node_id: str, kind: str, message: str, error: Exception, **extra: Any) -> None:
        """Notes that checking a node raised an error; describes it, which takes time, if named."""
        self.valid[node_id] = False
        if node_id in self._blamed or len(self._blamed) < MOST_PROBLEMS:
            lines = traceback.format_tb(error.__traceback__)
            extra |= {"exception_type": type_name(error), "traceback": lines}
        self._found(node_id, [_problem(kind, message, str(error), **extra)])

    def _found(self, node_id: str, problems: list[Problem]) -> None:
        self.problems[node_id] = problems
        if problems and (node_id in self._blamed or len(self._blamed) < MOST_PROBLEMS):
            self._blamed[node_id] = problems

    def _judge(self, node_id: str) -> bool:
        """Whether a node and all that it needs are valid. The caller handles exceptions.

        Each check says which node it needs next and waits in a list of our own: in a chain of
        thousands of nodes, calls that wait in one another would end in a RecursionError.
        """
        if node_id in self.valid:
            return self.valid[node_id]
        waiting = [self._check(node_id)]
        answer: bool | Exception | None = None
        while waiting:
            try:
                if isinstance(answer, Exception):
                    needed = waiting[-1].throw(answer)
                else:
                    needed = waiting[-1].send(answer)
            except StopIteration as finished:
                answer = bool(finished.value)
                waiting.pop()
            except Exception as error:
                answer = error
                waiting.pop()
            else:
                answer = self.valid.get(needed)
                if answer is None and needed in self.problems:
                    answer = ValueError(f"dependency cycle through node {needed}")
                elif answer is None:
                    waiting.append(self._check(needed))
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    def _check(self, node_id: str) -> _Check:
        """Whether a node is valid; yields the ids of nodes to check first, and is sent whether
        they are.
        """
        problems = self.problems[node_id] = []
        node = self.prompt[node_id]
        form, inputs = self._form(node["class_type"]), node["inputs"]
        if not isinstance(inputs, dict):
            raise TypeError(f"the inputs of node {node_id} are not an object")
        upstream_valid = True
        received_types: dict[str, Any] = {}
        for entry, is_required in form.entries:
            if isinstance(inputs.get(entry.name), list):
                problem, linked_valid = yield from self._check_link(
                    inputs[entry.name], entry, form.checker, received_types
                )
                upstream_valid &= linked_valid
            else:
                problem = _check_value(inputs, entry, form.checker, is_required=is_required)
            problems += [problem] if problem else []
        # A link to an undeclared input is followed all the same.
        for name, value in inputs.items():
            if name not in received_types and is_link(value):
                self._type_of(value)
                upstream_valid &= yield from self._check_upstream(value, _Input(name, "*", {}))
        problems += form.checker.run(inputs, form.declared, received_types)
        self._found(node_id, problems)
        self.valid[node_id] = upstream_valid and not problems
        return self.valid[node_id]

    def _form(self, class_type: str) -> _Form:
        """What a class declares, asked once per prompt: some list a folder to answer."""
        if class_type not in self._forms:
            self._forms[class_type] = _Form(self.classes[class_type])
        return self._forms[class_type]

    def _check_link(
        self, link: list[Any], entry: _Input, checker: _CustomCheck, received_types: dict[str, Any]
    ) -> Generator[str, bool | None, tuple[Problem | None, bool]]:
        """(problem of the link itself, whether everything behind it is valid); notes its type."""
        if len(link) != 2:
            return entry.problem("bad_linked_input", received_value=link), True
        received_types[entry.name] = received = self._type_of(link)
        if not checker.takes_types and not types_match(received, entry.kind):
            return entry.problem(
                "return_type_mismatch", received_type=received, linked_node=link
            ), True
        return None, (yield from self._check_upstream(link, entry))

    def _type_of(self, link: list[Any]) -> Any:
        return self.classes[self.prompt[link[0]]["class_type"]].RETURN_TYPES[link[1]]

    def _check_upstream(self, link: list[Any], entry: _Input) -> _Check:
        try:
            return bool((yield link[0]))
        except Exception as error:
            self._fail(
                link[0],
                "exception_during_inner_validation",
                "Exception when validating inner node",
                error,
                input_name=entry.name,
                input_config=entry.config,
                exception_message=str(error),
                linked_node=link,
            )
            return False


class _Form:
    """A class's inputs in the order in which they are checked, and its own check."""

    def __init__(self, node_class: Any) -> None:
        self.declared = node_class.INPUT_TYPES()
        self.checker = _CustomCheck(node_class)
        self.entries: list[tuple[_Input, bool]] = []  # with whether it is required
        for name in (*self.declared.get("required", {}), *self.declared.get("optional", {})):
            spec = input_spec(self.declared, name)
            assert spec is not None
            self.entries.append((_Input(name, spec[0], spec[2]), spec[1] == "required"))


def _check_value(
    inputs: dict[str, Any], entry: _Input, checker: _CustomCheck, *, is_required: bool
) -> Problem | None:
    """What is wrong with an input that is not a link."""
    if entry.name not in inputs:
        if not is_required:
            return None
        return _problem(
            "required_input_missing", "Required input is missing", entry.name, input_name=entry.name
        )
    problem = entry.convert(inputs)
    if problem is None and not checker.takes(entry.name):
        problem = entry.check_range(inputs[entry.name])
    return problem


@dataclass(frozen=True)
class _Input:
    """A declared input: its name, its type (a word, or the list of a combo) and its options."""

    name: str
    kind: Any
    options: dict[str, Any]

    @property
    def config(self) -> tuple[Any, dict[str, Any]]:
        return self.kind, self.options

    def problem(self, kind: str, **extra: Any) -> Problem:
        """A problem with this input; `extra` is added to the name and declaration in extra_info."""
        details = self.name
        if kind == "return_type_mismatch":
            details += f", received_type({extra['received_type']}) mismatch input_type({self.kind})"
        extra = {"input_name": self.name, "input_config": self.config} | extra
        message = _MESSAGES[kind].format_map(self.options | extra | {"kind": self.kind})
        return _problem(kind, message, details, **extra)

    def convert(self, inputs: dict[str, Any]) -> Problem | None:
        """Puts the value back into `inputs`, converted to its declared type."""
        value = inputs[self.name]
        # This is how a browser sends a value that is itself a list.
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[self.name] = value["__value__"]
        try:
            if isinstance(self.kind, str) and self.kind in _CONVERTERS:
                inputs[self.name] = _CONVERTERS[self.kind](value)
        except (TypeError, ValueError, OverflowError) as error:
            problem = self.problem(
                "invalid_input_type", received_value=value, exception_message=str(error)
            )
            return problem | {"details": f"{self.name}, {value}, {error}"}
        return None

    def check_range(self, value: Any) -> Problem | None:
        """Minimum, maximum, and the list of a combo."""
        if "min" in self.options and value < self.options["min"]:
            return self.problem("value_smaller_than_min", received_value=value)
        if "max" in self.options and value > self.options["max"]:
            return self.problem("value_bigger_than_max", received_value=value)
        choices = self.options.get("options", []) if self.kind == "COMBO" else self.kind
        if isinstance(choices, list) and value not in choices:
            return self._not_in_list(value, choices)
        return None

    def _not_in_list(self, value: Any, choices: list[Any]) -> Problem:
        problem = self.problem("value_not_in_list", received_value=value)
        listing = str(choices)
        if len(choices) > _LONGEST_LISTING:
            problem["extra_info"]["input_config"] = None
            listing = f"(list of length {len(choices)})"
        return problem | {"details": f"{self.name}: '{value}' not in {listing}"}


class _CustomCheck:
    """A node's own VALIDATE_INPUTS, which replaces the range and list checks of its inputs."""

    def __init__(self, node_class: Any) -> None:
        self.function = getattr(node_class, "VALIDATE_INPUTS", None)
        signature = inspect.getfullargspec(self.function) if self.function else None
        self.names = set(signature.args) if signature else set()
        self.takes_all = signature is not None and signature.varkw is not None

    def takes(self, name: str) -> bool:
        return self.takes_all or name in self.names

    @property
    def takes_types(self) -> bool:
        return "input_types" in self.names

    def run(
        self, inputs: dict[str, Any], declared: dict[str, Any], received_types: dict[str, Any]
    ) -> list[Problem]:
        """Calls it with the values that are known now; a linked input is None."""
        if self.function is None or not (self.names or self.takes_all):
            return []
        known = {
            name: None if is_link(value) else value
            for name, value in inputs.items()
            if self.takes(name) and (is_link(value) or input_spec(declared, name))
        }
        if self.takes_types:
            known["input_types"] = received_types
        (answer,) = runtime.completed([self.function(**known)])
        if answer is True:
            return []
        message = "Custom validation failed for node"
        reason = "" if answer is False else f" - {answer}"
        return [
            _problem("custom_validation_failed", message, name + reason, input_name=name)
            for name in known
        ]


_MESSAGES = {
    "bad_linked_input": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "invalid_input_type": "Failed to convert an input value to a {kind} value",
    "value_smaller_than_min": "Value {received_value} smaller than min of {min}",
    "value_bigger_than_max": "Value {received_value} bigger than max of {max}",
    "value_not_in_list": "Value not in list",
}


def types_match(received: Any, expected: Any) -> bool:
    """Whether an output of type `received` fits an input of type `expected`.

    "*" fits any type, "A,B" fits either. A pack's own class of type may say what differs from it,
    hence `!=`.
    """
    if not received != expected or "*" in (received, expected):  # noqa: SIM202
        return True
    if isinstance(received, list) and expected == "COMBO":
        return True
    if not isinstance(received, str) or not isinstance(expected, str):
        return False
    offered = {each.strip() for each in received.split(",")}
    wanted = {each.strip() for each in expected.split(",")}
    return "*" in offered | wanted or bool(offered & wanted)


def type_name(error: BaseException) -> str:
    """The exception's type with its module, as in "comfy_nodes.errors.PlanError"."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _problem(kind: str, message: str, details: str, **extra: Any) -> Problem:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
