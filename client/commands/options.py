"""Options that say which images, of which workflow, and what they mean."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfy_nodes.banks.prompt_bank import read_prompt_bank
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import parse_lines, read_classes
from comfy_nodes.plan.caption_plan import AnyPlan
from comfy_nodes.plan.captions import DEFAULT_LABEL, Captions, read_captions
from comfy_nodes.plan.strengths import parse_strengths

from ..workflow.changes.options import Options, patch
from ..workflow.graph import Workflow
from . import COMMANDS
from .servers import is_embedded

log = logging.getLogger(__name__)


def new_parser(commands: Any, name: str, *, examples: str) -> argparse.ArgumentParser:
    """A command's parser: what it does above the options, its examples below them."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        description=COMMANDS[name],
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_rows_option(parser: argparse.ArgumentParser) -> None:
    """Which part of the plan."""
    parser.add_argument(
        "--rows",
        metavar="A:B",
        help="only rows A to B-1 of the plan; several machines make a range each (A: and :B too)",
    )


def rows_of(text: str | None, plan: AnyPlan) -> range | None:
    """The rows that --rows names; None for all.

    Raises:
        PlanError: it is not a range, or not one of this plan.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{0,18}):(\d{0,18})\s*", text)
    if not match:
        raise PlanError(f"--rows {text} is not a range; write A:B, such as 0:1000 or 1000:")
    start, end = int(match[1] or 0), int(match[2] or len(plan))
    if not start < end <= len(plan):
        raise PlanError(f"--rows {text} is not within this plan, whose rows are 0:{len(plan)}")
    return range(start, end)


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What to make: classes, templates, counts."""
    group = parser.add_argument_group("what to make (default: what the workflow says)")
    group.add_argument(
        "--classes",
        type=Path,
        metavar="PATH",
        help="text file, JSON file, or folder with one folder per class",
    )
    group.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="captions instead of classes and templates, each a prompt as it is: text with one per "
        "line, CSV with a column caption (and label), or JSON lines; --per-prompt images of each",
    )
    group.add_argument(
        "--captions-label",
        metavar="NAME",
        help=f"label of captions that have none (default: {DEFAULT_LABEL})",
    )
    group.add_argument("--per-class", type=int, metavar="N", help="images per class")
    group.add_argument(
        "--per-prompt",
        type=int,
        metavar="K",
        help="images that share a prompt, or a caption (default: 1)",
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="images per queued job")
    group.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="prompt template, such as 'a photo of a {class}' (repeatable)",
    )
    group.add_argument(
        "--contexts", type=Path, metavar="FILE", help="values of {context}, one per line"
    )
    group.add_argument(
        "--styles", type=Path, metavar="FILE", help="values of {style}, one per line"
    )
    group.add_argument(
        "--bank",
        type=Path,
        metavar="FILE",
        help="prompt bank (JSON): definitions, contexts and styles for each class, and shared ones",
    )
    group.add_argument(
        "--wildcards",
        type=Path,
        metavar="FOLDER",
        help="text files of wildcards: __color__ in a template is a line of FOLDER/color.txt",
    )
    group.add_argument("--negative", metavar="TEXT", help="negative prompt")
    group.add_argument(
        "--strength",
        metavar="X[,X...]",
        help="with real images: how far to depart from them, above 0 up to 1; of several, such as "
        "0.3,0.5,0.7, every image has one, which its record holds",
    )
    group.add_argument(
        "--plan-seed", type=int, metavar="N", help="number from which all image seeds derive"
    )


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How to make it: model, size, sampler."""
    group = parser.add_argument_group("how to make it (default: what the workflow says)")
    group.add_argument("--checkpoint", metavar="NAME", help="model, as the server lists it")
    group.add_argument("--width", type=int, metavar="PIXELS")
    group.add_argument("--height", type=int, metavar="PIXELS")
    group.add_argument("--steps", type=int, metavar="N")
    group.add_argument(
        "--cfg", type=float, metavar="X", help="guidance: how closely to follow the prompt"
    )
    group.add_argument("--sampler", metavar="NAME")
    group.add_argument("--scheduler", metavar="NAME")
    group.add_argument(
        "--real-folder",
        metavar="NAME",
        help="with real images: their folder inside the server's input folder",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="any other input; NODE is a title, class or id, VALUE is JSON or text (repeatable)",
    )


def options_of(args: argparse.Namespace) -> Options:
    """The given options; for the embedded engine, its own checkpoint and size by default."""
    checkpoint, width, height = (
        getattr(args, name, None) for name in ("checkpoint", "width", "height")
    )
    if is_embedded(args) and checkpoint is None:
        from ..embedded import DEFAULT_CHECKPOINT, DEFAULT_SIZE

        checkpoint, width, height = (
            DEFAULT_CHECKPOINT,
            width or DEFAULT_SIZE,
            height or DEFAULT_SIZE,
        )
    return Options(
        captions=_captions(args),
        classes=read_classes(args.classes) if args.classes else None,
        templates=tuple(args.template) if args.template else None,
        contexts=_lines(args.contexts),
        styles=_lines(args.styles),
        wildcards=args.wildcards and args.wildcards.expanduser(),
        bank=read_prompt_bank(args.bank.expanduser()) if args.bank else None,
        negative=args.negative,
        images_per_class=args.per_class,
        images_per_prompt=args.per_prompt,
        batch_size=args.batch_size,
        plan_seed=args.plan_seed,
        checkpoint=checkpoint,
        width=width,
        height=height,
        **{
            name: getattr(args, name, None)
            for name in ("steps", "cfg", "sampler", "scheduler", "real_folder")
        },
        **_strength_of(getattr(args, "strength", None)),
    )


def _captions(args: argparse.Namespace) -> Captions | None:
    label = args.captions_label
    if args.captions is not None:
        return read_captions(args.captions.expanduser(), label or "")
    if label is not None:
        raise PlanError("--captions-label is for captions; give --captions FILE as well")
    return None


def _strength_of(text: str | float | None) -> dict[str, Any]:
    """One strength is a setting of the workflow, several are part of the plan.

    Raises:
        PlanError: something else than numbers above 0 up to 1, or one given twice.
    """
    if text is None:
        return {}
    found = parse_strengths(str(text))
    if not found:
        raise PlanError("--strength has no number; write --strength 0.5 or 0.3,0.5,0.7")
    return {"strengths": found} if len(found) > 1 else {"strength": found[0]}


def _lines(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        return parse_lines(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"cannot read {path}: {error}; expected UTF-8 text, one entry per line"
        ) from error


def workflow_of(
    args: argparse.Namespace,
    object_info: Callable[[], Mapping[str, Any]],
    replacements: Callable[[], Mapping[str, Any]],
) -> Workflow:
    """The named workflow, with the options applied.

    `object_info` and `replacements` return a server's /object_info and /node_replacements; they
    are called to convert editor format, and for classes that may have another name today. A file
    in API format whose server does not answer stays as it is.

    Raises:
        WorkflowError: no workflow, or an option that no node takes.
    """
    from ..workflow.changes.overrides import with_settings
    from ..workflow.loading import load_for

    workflow, notes = load_for(args.workflow, object_info, replacements)
    for note in notes:
        log.warning("warning: %s", note)
    return with_settings(patch(workflow, options_of(args)), args.set)
