"""Groups of command-line options that several commands share, and what they mean."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_nodes.errors import PlanError
from comfy_nodes.plan import parse_lines, read_classes

from .workflow import Options, Workflow, load_workflow, patch

if TYPE_CHECKING:
    from .runner import ServerSource


def new_parser(commands: Any, name: str, *, help: str, examples: str) -> argparse.ArgumentParser:
    """A command's parser, with `--verbose` and its examples below the options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, epilog=f"examples:\n{examples}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="log every detail, and show where an error came from")
    return parser


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What to make: classes, templates, counts."""
    group = parser.add_argument_group("what to make (default: what the workflow says)")
    group.add_argument("--classes", type=Path, metavar="PATH", help="text file, JSON file, or folder of class folders")
    group.add_argument("--per-class", type=int, metavar="N", help="images of each class")
    group.add_argument("--batch-size", type=int, metavar="N", help="images a queued job")
    group.add_argument("--template", action="append", metavar="TEXT", help="prompt template, as 'a photo of a {class}'")
    group.add_argument("--contexts", type=Path, metavar="FILE", help="values of {context}, one a line")
    group.add_argument("--styles", type=Path, metavar="FILE", help="values of {style}, one a line")
    group.add_argument("--negative", metavar="TEXT", help="negative prompt")
    group.add_argument("--plan-seed", type=int, metavar="N", help="number that every image's seed follows from")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How to make it: model, size, sampler."""
    group = parser.add_argument_group("how to make it (default: what the workflow says)")
    group.add_argument("--checkpoint", metavar="NAME", help="model, as the server lists it")
    group.add_argument("--width", type=int, metavar="PIXELS")
    group.add_argument("--height", type=int, metavar="PIXELS")
    group.add_argument("--steps", type=int, metavar="N")
    group.add_argument("--cfg", type=float, metavar="X", help="guidance: how closely to follow the prompt")
    group.add_argument("--sampler", metavar="NAME")
    group.add_argument("--scheduler", metavar="NAME")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Which workflow, on which server."""
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW", help="a workflow in API format")
    parser.add_argument("--server", required=True, metavar="URL|embedded", help="a ComfyUI, or the built-in engine")
    parser.add_argument(
        "--checkpoint-dir", type=Path, action="append", default=[], metavar="DIR",
        help="embedded only: a folder of checkpoints in diffusers format (repeatable)",
    )  # fmt: skip


def options_of(args: argparse.Namespace) -> Options:
    """The options that were given; for the embedded engine, its own checkpoint and size where none were."""
    checkpoint, width, height = (getattr(args, name, None) for name in ("checkpoint", "width", "height"))
    if getattr(args, "server", None) == "embedded" and checkpoint is None:
        from .embedded import DEFAULT_CHECKPOINT, DEFAULT_SIZE

        checkpoint, width, height = DEFAULT_CHECKPOINT, width or DEFAULT_SIZE, height or DEFAULT_SIZE
    return Options(
        classes=read_classes(args.classes) if args.classes else None,
        templates=tuple(args.template) if args.template else None,
        contexts=_lines(args.contexts),
        styles=_lines(args.styles),
        negative=args.negative,
        images_per_class=args.per_class,
        batch_size=args.batch_size,
        plan_seed=args.plan_seed,
        checkpoint=checkpoint,
        width=width,
        height=height,
        **{name: getattr(args, name, None) for name in ("steps", "cfg", "sampler", "scheduler")},
    )


def _lines(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        return parse_lines(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read {path}: {error}; expected UTF-8 text, one entry a line") from error


def workflow_of(args: argparse.Namespace) -> Workflow:
    """The workflow that was named, with the options put in."""
    return patch(load_workflow(args.workflow), options_of(args))


def server_of(args: argparse.Namespace, stack: ExitStack) -> ServerSource:
    """The server that was asked for; nothing is started or connected yet."""
    if args.server == "embedded":
        from .launch import EmbeddedServer

        return stack.enter_context(EmbeddedServer(checkpoint_directories=args.checkpoint_dir))
    from .runner import GivenServer
    from .server import ComfyServer

    return GivenServer(stack.enter_context(ComfyServer(args.server)))
