"""The inputs and widgets that ComfyUI's editor gives a node, from /object_info and saved values.

A saved node lists its widget values by position only. Which widget a position means follows from
the class: the order of its inputs, which of them have widgets, and the helper widgets that the
editor adds but does not send (control_after_generate). The rules are those of ComfyUI's editor,
which also exported the fixtures of the tests. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import WorkflowError
from .editor import EditorNode, Slot

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
CUSTOM_COMBO = "CustomCombo"  # its users write its choices; the server checks none of its inputs
_WIDGETS = {
    "INT",
    "FLOAT",
    "BOOLEAN",
    "STRING",
    "COMBO",
    "MARKDOWN",
    "TEXTAREA",
    "COLOR",
    "COLORS",
    "CURVE",
    "RANGE",
    "BOUNDING_BOX",
    "BOUNDING_BOXES",
    "PAINTER",
    "COMPOSITOR",
    "VIDEO_EDIT",
    "IMAGECOMPARE",
    DYNAMIC_COMBO,
}
_NOT_SAVED = {"IMAGECOMPARE"}  # shows two images after a run; always sent as it is at first
# Their content is made in a browser when a prompt is queued (a camera picture, sound, a 3D view).
_BROWSER_ONLY = {
    "WEBCAM", "AUDIO_RECORD", "LOAD_3D",
    "COMFY_DYNAMICGROUP_V3",
    "COMFY_BRANCH_INPUT_NAMES", "COMFY_BRANCH_SELECTOR",
}  # fmt: skip
_SEEDS = ("seed", "noise_seed")
_BOX_SIDES = 4  # numbers that the editor shows, and saves, for the parts of a bounding box
# What the editor starts with where the class gives no default.
_DEFAULTS: dict[str, Any] = {
    "INT": 0,
    "FLOAT": 0,
    "BOOLEAN": False,
    "STRING": "",
    "PAINTER": "",
    "COLOR": "#000000",
    "COLORS": [],
    "RANGE": {"min": 0, "max": 1},
    "BOUNDING_BOX": {"x": 0, "y": 0, "width": 512, "height": 512},
    "BOUNDING_BOXES": [],
    "IMAGECOMPARE": ["", ""],
}


@dataclass(frozen=True)
class Input:
    """One declared input of a node class."""

    name: str
    type: str
    options: Mapping[str, Any]
    required: bool
    choices: Sequence[Any] | None = None

    @property
    def socket_only(self) -> bool:
        """Whether the class wants no widget although the type would have one."""
        return bool(
            self.options.get("forceInput")
            or (self.options.get("defaultInput") and not self.required)
        )

    @property
    def helpers(self) -> int:
        """How many helper widgets follow, whose values are saved but not sent."""
        control = self.options.get("control_after_generate")
        if self.type == "INT":
            # By the whole name: a seed inside a dynamic choice, "mode.seed", gets none.
            return int(bool(self.name in _SEEDS if control is None else control))
        if self.type == "COMBO":
            return 2 if control else 0  # the control itself and a filter for it
        if self.type == "BOUNDING_BOX":
            return _BOX_SIDES
        return int(self.type == "FLOAT" and bool(control))

    @property
    def default(self) -> Any:
        """The value of an untouched widget."""
        listed = self.options.get("options")
        options = listed if self.type == DYNAMIC_COMBO and isinstance(listed, list) else []
        first = options[0].get("key") if options and isinstance(options[0], Mapping) else None
        choices = self.choices or ()
        fallback = choices[0] if choices else _DEFAULTS.get(self.type, first)
        given = self.options.get("default")
        return fallback if given is None or (self.type == "COMBO" and not given) else given


@dataclass(frozen=True)
class Widget:
    """A widget that is sent to the server, and its value."""

    input: Input
    value: Any


@dataclass(frozen=True)
class Shape:
    """A node as the editor builds it: widgets, and inputs in the order that bypassing relies on."""

    inputs: tuple[Slot, ...]
    widgets: Mapping[str, Widget]
    required: frozenset[str] = field(default_factory=frozenset)


def shape_of(node: EditorNode, info: Mapping[str, Any]) -> Shape:
    """The shape of a node of a class that the server describes with `info`.

    Raises:
        WorkflowError: its saved values are ambiguous, or come from a browser-only widget.
    """
    declared = list(declared_inputs(info))
    with_widget = {slot.widget for slot in node.inputs if slot.widget}
    saved = _Saved(node, _aligned(node, declared, with_widget))
    widgets = {each.input.name: each for each in _widgets(node, declared, with_widget, saved)}
    saved.check(widgets.values())
    inputs = _slots(node, declared, widgets)
    if node.type == CUSTOM_COMBO:
        widgets = widgets | {each.input.name: each for each in _written_choices(node)}
    return Shape(tuple(inputs), widgets, frozenset(each.name for each in declared if each.required))


def _written_choices(node: EditorNode) -> Iterator[Widget]:
    """The choices of a custom combo, which it saves after its value and the value's position."""
    if isinstance(node.values, dict):
        named = {name: each for name, each in node.values.items() if name.startswith("option")}
    else:
        rest = (node.values or [])[1:]
        rest = rest[1:] if rest and isinstance(rest[0], int) else rest
        named = {f"option{number}": each for number, each in enumerate(rest, 1)}
    for name, value in named.items():
        yield Widget(Input(name, "STRING", {}, required=False), value)


def position_of_choice(inputs: Mapping[str, Any], saved: Any) -> int:
    """Where a custom combo's choice stands among its choices; -1 if it is none of them.

    `saved` is the choice in the file, which counts if another node gives the choice at run time.
    """
    choices = [value for name, value in inputs.items() if name.startswith("option")]
    given = inputs.get("choice")
    choice = given if isinstance(given, str) else saved
    return choices.index(choice) if choice in choices else -1


def declared_inputs(info: Mapping[str, Any]) -> Iterator[Input]:
    """The inputs of one /object_info entry in the order in which the editor builds them."""
    groups, order = info.get("input"), info.get("input_order")
    groups = groups if isinstance(groups, Mapping) else {}
    order = order if isinstance(order, Mapping) else {}
    for group in ("required", "optional"):
        found = groups.get(group)
        found = found if isinstance(found, Mapping) else {}
        listed = order.get(group)
        names = (
            [name for name in listed if isinstance(name, str) and name in found]
            if isinstance(listed, list)
            else []
        )
        for name in dict.fromkeys((*names, *found)):
            yield _input(name, found[name], required=group == "required")


def _input(name: str, spec: Any, *, required: bool) -> Input:
    parts = list(spec) if isinstance(spec, (list, tuple)) and spec else ["*"]
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else {}
    if isinstance(parts[0], (list, tuple)):
        return Input(name, "COMBO", options, required, parts[0])
    listed = options.get("options")
    kind = str(options.get("widgetType") or parts[0])
    return Input(
        name,
        kind,
        options,
        required,
        listed if kind == "COMBO" and isinstance(listed, list) else None,
    )


def _has_widget(each: Input, with_widget: set[str]) -> bool:
    """Packs may have their own widget types; newer files show by their inputs which these are."""
    if each.socket_only or each.type in (AUTOGROW, MATCH_TYPE):
        return False
    return each.type in _WIDGETS or each.name in with_widget


def _widgets(
    node: EditorNode, declared: Sequence[Input], with_widget: set[str], saved: _Saved
) -> Iterator[Widget]:
    for each in declared:
        if each.type in _BROWSER_ONLY:
            raise WorkflowError(
                f"{node.name}: its input '{each.name}' ({each.type}) is filled by the browser; "
                "in ComfyUI: File, Export (API), or put a loader node there"
            )
        if not _has_widget(each, with_widget):
            continue
        value = saved.take(each)
        yield Widget(each, value)
        saved.skip(each.helpers)
        if each.type == DYNAMIC_COMBO:
            yield from _widgets(node, list(_inputs_of_choice(each, value)), with_widget, saved)


def _inputs_of_choice(combo: Input, value: Any) -> Iterator[Input]:
    """The inputs that a dynamic combo shows for its value, named "combo.input"."""
    options = combo.options.get("options")
    for option in options if isinstance(options, list) else []:
        if (
            isinstance(option, Mapping)
            and option.get("key") == value
            and isinstance(option.get("inputs"), Mapping)
        ):
            for group in ("required", "optional"):
                found = option["inputs"].get(group)
                for name, spec in found.items() if isinstance(found, Mapping) else ():
                    yield _input(f"{combo.name}.{name}", spec, required=group == "required")


def _aligned(
    node: EditorNode, declared: Sequence[Input], with_widget: set[str]
) -> list[Any] | dict[str, Any] | None:
    """Saved values except those, by older editors, of inputs that have lost their widget."""
    if not isinstance(node.values, list) or not any(each.socket_only for each in declared):
        return node.values
    forced: list[bool] = []
    for each in declared:
        if each.socket_only or _has_widget(each, with_widget):
            forced += [each.socket_only] + [False] * bool(
                each.options.get("control_after_generate")
            )
    if len(forced) != len(node.values):
        return node.values
    return [value for value, out in zip(node.values, forced, strict=True) if not out]


class _Saved:
    """The saved values of a node, taken one widget at a time."""

    def __init__(self, node: EditorNode, values: list[Any] | dict[str, Any] | None) -> None:
        self._node = node
        self._values = values if values is not None else []
        self._next = 0

    def take(self, each: Input) -> Any:
        """The value of the next widget; its default where none was saved."""
        if isinstance(self._values, dict):
            return self._values.get(each.name, each.default)
        if each.type in _NOT_SAVED:
            return each.default
        position, self._next = self._next, self._next + 1
        value = self._values[position] if position < len(self._values) else each.default
        return each.default if value is None and each.choices else value

    def skip(self, count: int) -> None:
        """Passes over the values of helper widgets."""
        self._next += count

    def check(self, widgets: Iterable[Widget]) -> None:
        """Refuses values that were saved for other widgets than the server's class has."""
        if isinstance(self._values, dict) or self._next == len(self._values):
            return
        for widget in widgets:
            if not _fits(widget):
                raise WorkflowError(
                    f"{self._node.name} has {len(self._values)} saved values, the server's "
                    f"{self._node.type} takes {self._next}, and {widget.value!r} is not a valid "
                    f"{widget.input.type} for '{widget.input.name}': it was saved with another "
                    "version of the node; open it in ComfyUI, correct the node, and save it again"
                )


def _fits(widget: Widget) -> bool:
    value, kind = widget.value, widget.input.type
    if value is None:
        return True
    if kind in ("INT", "FLOAT"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (isinstance(value, float) and (kind == "FLOAT" or value.is_integer()))
    if kind in ("BOOLEAN", "STRING"):
        return isinstance(value, bool if kind == "BOOLEAN" else str)
    choices = widget.input.choices
    return not choices or any(type(each) is type(value) for each in choices)


def _slots(
    node: EditorNode, declared: Sequence[Input], widgets: Mapping[str, Widget]
) -> Iterator[Slot]:
    """Sockets first, then the widgets' inputs, then what only the file knows."""
    given = {slot.name: slot for slot in node.inputs}
    used: set[str] = set()

    def known(name: str, kind: str, widget: str | None) -> Slot:
        used.add(name)
        link = given[name].link if name in given else None
        return Slot(name, "*" if kind == MATCH_TYPE else kind, link, widget)

    for each in declared:
        if each.type == AUTOGROW:
            for slot in node.inputs:
                if slot.name.startswith(f"{each.name}."):
                    yield known(slot.name, slot.type, None)
        elif each.name not in widgets:
            yield known(each.name, each.type, None)
    for widget in widgets.values():
        if widget.input.name not in used:
            yield known(widget.input.name, widget.input.type, widget.input.name)
    yield from (slot for slot in node.inputs if slot.name not in used)


def sent_value(widget: Widget, value: Any, *, node: EditorNode) -> Any:
    """What the editor sends for a widget's value: no comments in text, lists wrapped as values.

    Raises:
        WorkflowError: the text has random choices, so every queued prompt would be different.
    """
    if widget.input.options.get("dynamicPrompts") is True and isinstance(value, str):
        return _text(value, node)
    if widget.input.type == "CURVE" and value is not None:
        return {"__type__": "CURVE", "__value__": value}
    return wrapped(value)


def wrapped(value: Any) -> Any:
    """A list as a value; a bare list would be read as a link."""
    return {"__value__": value} if isinstance(value, list) else value


_COMMENT = re.compile(r"/\*.*?\*/|//[^\n\r\u2028\u2029]*", re.DOTALL)
_PIECE = re.compile(r"\\.|[{}|]|[^\\{}|]+|\\", re.DOTALL)


def _text(value: str, node: EditorNode) -> str:
    """Text as sent: no comments, no {braces} around a single choice, escaped braces as braces."""
    depth = 0
    kept = []
    for piece in _PIECE.findall(_COMMENT.sub("", value)):
        if piece == "{":
            depth += 1
        elif piece == "}" and depth:
            depth -= 1
        elif piece == "|" and depth:
            raise WorkflowError(
                f"{node.name}: its text has random choices {{a|b}}, which the browser draws again "
                "for every queued prompt; choose one, or vary prompts with the templates of "
                "SynthGrid's plan"
            )
        else:
            kept.append(
                piece[1] if len(piece) == 2 and piece[0] == "\\" and piece[1] in "{}|" else piece
            )
    return "".join(kept)
