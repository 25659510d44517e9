"""The nodes that read class names and prompt templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import islice
from typing import Any

from .. import paths
from ..banks import BankEntry, read_bank
from ..banks.prompt_bank import PromptBank, bank_from_json, read_prompt_bank
from ..errors import PlanError, SynthGridError
from ..graph import is_link, queued
from ..plan import (
    DEFAULT_TEMPLATE,
    ClassEntry,
    GenerationPlan,
    PromptTemplates,
    parse_classes,
    parse_lines,
    read_classes,
)
from ..plan.wildcards import parse_wildcards, read_wildcard

CATEGORY = "SynthGrid"
CLASS_LIST, TEMPLATES = "SynthGridClassList", "SynthGridPromptTemplates"
BATCHER = "SynthGridClassPromptBatcher"
MOST_CHECKED = 100  # batchers in a graph whose classes are checked against templates beforehand
BANKS = ("templates", "contexts", "styles")


class ClassList:
    """SynthGrid Class List: text, a file or a folder -> SYNTHGRID_CLASSES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The classes to make images of: typed in, or read from a text file, a JSON file or a "
        "folder of class folders."
    )
    RETURN_TYPES = ("SYNTHGRID_CLASSES",)
    RETURN_NAMES = ("classes",)
    OUTPUT_TOOLTIPS = ("The classes, for the Class-Prompt Batcher.",)
    FUNCTION = "read"
    SEARCH_ALIASES = ["class names", "labels", "dataset", "categories", "class folders"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "classes": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "badger\nbat\nbear",
                        "tooltip": "One class per line. 'crane: a large long-legged bird' adds a "
                        "definition, which templates can use as {definition}. Lines that begin "
                        "with # are ignored. JSON works too.",
                    },
                ),
                "path": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Optional. A text file, a JSON file, or a folder whose "
                        "sub-folders are the classes; in ComfyUI's input folder. If this is filled "
                        "in, the text above is ignored.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, classes: str, path: str) -> str:
        """The classes themselves, because a file or folder may have changed on disk."""
        try:
            return repr(_read_classes(classes, path))
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, classes: str | None = None, path: str | None = None) -> bool | str:
        """Refuses a list that cannot be read before anything is queued; None comes over a link."""
        if path is None or (classes is None and not path.strip()):
            return True
        try:
            _read_classes(classes or "", path)
        except SynthGridError as error:
            return str(error)
        return True

    def read(self, classes: str, path: str) -> tuple[tuple[ClassEntry, ...]]:
        """The classes. Raises PlanError: none, one given twice, or a path that does not exist."""
        return (_read_classes(classes, path),)


class PromptTemplatesNode:
    """SynthGrid Prompt Templates: templates, negative prompt and banks -> SYNTHGRID_TEMPLATES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "How a class name becomes a prompt. Placeholders: {class}, {definition}, {context}, "
        "{style}. With several templates, contexts or styles, each class uses all of them equally "
        "often, in its own shuffled order. {red|blue} and the wildcard __color__ are drawn anew "
        "for every image, from its seed."
    )
    RETURN_TYPES = ("SYNTHGRID_TEMPLATES",)
    RETURN_NAMES = ("templates",)
    OUTPUT_TOOLTIPS = ("The templates, for the Class-Prompt Batcher.",)
    FUNCTION = "read"
    SEARCH_ALIASES = [
        "prompt list",
        "wildcards",
        "alternatives",
        "prompt bank",
        "dynamic prompts",
        "negative prompt",
        "styles",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def bank(name: str, example: str) -> tuple[str, dict[str, Any]]:
            tooltip = f"One {name} per line, for {{{name}}} in a template; for example '{example}'."
            return "STRING", {"multiline": True, "default": "", "tooltip": tooltip}

        def file(name: str) -> tuple[str, dict[str, Any]]:
            tooltip = (
                f"Optional. A file of {name} in ComfyUI's input folder: one "
                f"per line, or JSON, or CSV with a column '{name}'. If this is filled in, the text "
                f"of {name} above is ignored."
            )
            return "STRING", {"default": "", "tooltip": tooltip}

        typed = (
            "Lists for __name__ in templates, contexts and styles: a line '__color__:', and below "
            "it the entries, one per line."
        )
        folder = (
            "A folder in ComfyUI's input folder with a text file for each wildcard that is not "
            "typed in: __color__ is color.txt, __animals/cats__ is animals/cats.txt."
        )
        templates = {
            "multiline": True,
            "default": DEFAULT_TEMPLATE,
            "tooltip": "One prompt template per line, for example "
            "'a photo of a {class}, {context}, {style}' or 'a {small|large} {class}'.",
        }
        negative = {
            "default": "",
            "tooltip": "What images should not show. The same for every image of the plan.",
        }
        bank_text = (
            "Optional. A prompt bank as JSON, typed in or from a node that makes text: a "
            "definition, contexts and styles for each class, and shared ones for classes without "
            "their own. Shared ones take the place of contexts and styles above."
        )
        bank_file = (
            "Optional. A prompt bank as a JSON file in ComfyUI's input folder. If this is filled "
            "in, the text of bank is ignored."
        )
        return {
            "required": {
                "templates": ("STRING", templates),
                "negative_prompt": ("STRING", {"multiline": True} | negative),
                "contexts": bank("context", "in a forest at dawn"),
                "styles": bank("style", "black and white photograph"),
            },
            "optional": {f"{name}_file": file(name) for name in BANKS}
            | {
                "wildcards": ("STRING", {"multiline": True, "default": "", "tooltip": typed}),
                "wildcards_folder": ("STRING", {"default": "wildcards", "tooltip": folder}),
                "bank": ("STRING", {"multiline": True, "default": "", "tooltip": bank_text}),
                "bank_file": ("STRING", {"default": "", "tooltip": bank_file}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float | str:
        """The entries of files and wildcards, because a file may have changed on disk.

        Which wildcards a linked text (None) uses is not known here: then nothing is cached, if
        there is a folder of them.
        """
        folder = inputs.get("wildcards_folder") or ""
        try:
            if any(value is None for value in inputs.values()):
                has_files = bool(folder.strip()) and paths.list_to_read(folder).is_dir()
                return float("nan") if has_files else _entries_of_files(inputs)
            required = dict.fromkeys(cls.INPUT_TYPES()["required"], "")
            texts = cls().read(**required | inputs)[0]
            return repr(texts)
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, templates: str | None = None) -> bool | str:
        """Refuses what makes no prompt, or none for the linked classes, before it is queued.

        The other inputs are in the queued graph. ComfyUI repeats the answer for every input that is
        named here, hence only one. The value of a linked input (None) is not known yet, nor then
        whether the rest fits it.
        """
        if templates is None:
            return True
        return queued.once("problems of templates", _problems).get(templates, True)

    def read(
        self,
        templates: str,
        negative_prompt: str,
        contexts: str,
        styles: str,
        templates_file: str = "",
        contexts_file: str = "",
        styles_file: str = "",
        wildcards: str = "",
        wildcards_folder: str = "",
        bank: str = "",
        bank_file: str = "",
    ) -> tuple[PromptTemplates]:
        """The templates with their banks and the wildcards that they use.

        Raises:
            PlanError: no template, an unknown placeholder, a placeholder whose bank is empty, a
                bank file that is missing or malformed (the message names the line), or
                alternatives or wildcards that are malformed or missing.
            LabelsetError: a file outside the folders that may be read.
        """
        entries = _bank("templates", templates, templates_file)
        own = _prompt_bank(bank, bank_file)
        banks = {
            "contexts": _texts(_bank("contexts", contexts, contexts_file)),
            "styles": _texts(_bank("styles", styles, styles_file)),
        }
        find = _finder(wildcards, wildcards_folder)

        def made(templates: tuple[str, ...]) -> PromptTemplates:
            return PromptTemplates.with_bank(
                own, find, templates=templates, negative_prompt=negative_prompt.strip(), **banks
            )

        if templates_file.strip():
            _refuse_bad_lines(entries, templates_file, made)
        return (made(_texts(entries)),)


def _problems() -> dict[str, bool | str]:
    """Templates as typed in -> what is wrong with them, for the nodes of the queued graph."""
    found: dict[str, bool | str] = {}
    for node_id, inputs in queued.nodes(TEMPLATES).items():
        try:
            texts = _queued_texts(inputs)
        except LookupError:
            continue
        try:
            (templates,) = PromptTemplatesNode().read(**texts)
            for classes in _classes_with(node_id):
                GenerationPlan(classes, templates)
        except SynthGridError as error:
            found[texts["templates"]] = str(error)
    return found


def _queued_texts(inputs: Mapping[str, Any]) -> dict[str, str]:
    declared = PromptTemplatesNode.INPUT_TYPES()
    if is_link(inputs.get("negative_prompt")):  # the others can be checked without it
        inputs = {**inputs, "negative_prompt": ""}
    return queued.typed(inputs, *declared["required"], optional=tuple(declared["optional"]))


def _classes_with(templates_id: str) -> list[tuple[ClassEntry, ...]]:
    """The class lists that the queued graph joins with these templates, as far as it is known."""
    batchers = islice(queued.nodes(BATCHER).values(), MOST_CHECKED)
    joined = [each for each in batchers if queued.node_before(each, "templates") == templates_id]
    lists = dict.fromkeys(queued.node_before(each, "classes") for each in joined)
    return [classes for node_id in lists if (classes := queued_classes(node_id))]


def queued_classes(node_id: str) -> tuple[ClassEntry, ...]:
    """The classes of a Class List in the queued graph.

    None if they are not known yet, or if the list is wrong, which its own node says.
    """
    inputs = queued.nodes(CLASS_LIST).get(node_id, {})
    try:
        return _read_classes(**queued.typed(inputs, "classes", "path"))
    except (LookupError, SynthGridError):
        return ()


def _read_classes(classes: str, path: str) -> tuple[ClassEntry, ...]:
    return read_classes(paths.list_to_read(path)) if path.strip() else parse_classes(classes)


def _bank(name: str, text: str, file: str) -> tuple[BankEntry, ...]:
    """The entries of a bank: those of the file if one is named, otherwise the lines of the text."""
    if file.strip():
        return read_bank(paths.list_to_read(file), name)
    return tuple(BankEntry(line, "") for line in parse_lines(text))


def _prompt_bank(text: str, file: str) -> PromptBank:
    """The bank of a file if one is named, otherwise that of the text; an empty one if neither."""
    if file.strip():
        return read_prompt_bank(paths.list_to_read(file))
    return bank_from_json(text) if text.strip() else PromptBank()


def _entries_of_files(inputs: Mapping[str, Any]) -> str:
    files = {name: inputs.get(f"{name}_file") or "" for name in BANKS}
    own = _prompt_bank("", inputs.get("bank_file") or "")
    return repr([*(_bank(name, "", file) for name, file in files.items()), own])


def _finder(typed: str, folder: str) -> Callable[[str], tuple[str, ...]]:
    """Entries by name: those typed in, otherwise those of a text file in the folder."""
    lists = parse_wildcards(typed)

    @cache
    def find(name: str) -> tuple[str, ...]:
        if name in lists or not folder.strip():
            return lists.get(name, ())
        return read_wildcard(paths.list_to_read(f"{folder.strip()}/{name}.txt"), name)

    return find


def _texts(entries: tuple[BankEntry, ...]) -> tuple[str, ...]:
    return tuple(entry.text for entry in entries)


def _refuse_bad_lines(
    entries: tuple[BankEntry, ...], file: str, made: Callable[..., PromptTemplates]
) -> None:
    """Raises PlanError for the first template that is wrong, with its line in the file."""
    for entry in entries:
        try:
            made((entry.text,))
        except PlanError as error:
            raise PlanError(
                f"templates_file {paths.list_to_read(file)} {entry.place}: {error}"
            ) from error


NODE_CLASS_MAPPINGS = {
    CLASS_LIST: ClassList,
    TEMPLATES: PromptTemplatesNode,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    CLASS_LIST: "SynthGrid Class List",
    TEMPLATES: "SynthGrid Prompt Templates",
}
