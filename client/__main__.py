"""The client's command line: plan, run, validate, serve. `python -m client --help` has examples.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed (one line says why),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_nodes.errors import PlanError, SynthGridError
from comfy_nodes.plan import GenerationPlan, PromptTemplates, parse_lines, read_classes

from .workflow import Options, Workflow, load_workflow, patch

if TYPE_CHECKING:
    from .runner import ServerSource

log = logging.getLogger("client")

DEFAULT_PER_CLASS = 30
DEFAULT_BATCH_SIZE = 8
EXAMPLES = """examples:
  python -m client plan --classes data/digits/train --per-class 30
  python -m client run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train \\
      --per-class 30 --batch-size 16 --out data/digits-synthetic
  python -m client run workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188 --classes classes.txt \\
      --template "a photo of a {class}, {context}" --contexts contexts.txt --steps 30 --out data/synthetic
  python -m client validate workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188
  python -m client serve --port 8188 --base-directory data/engine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO, format="%(message)s", stream=sys.stderr, force=True
    )
    if not args.verbose:
        logging.getLogger("urllib3").setLevel(logging.WARNING)
    _use_utf8()
    try:
        result: int = args.command(args)
        return result
    except SynthGridError as error:
        log.error("error: %s", error, exc_info=args.verbose)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _use_utf8() -> None:
    """Class names of any language can be shown on any terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to a function from arguments to exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m client",
        formatter_class=raw,
        epilog=EXAMPLES,
        description="Class names and a workflow in, a folder of labelled images out.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="log every detail, and show where an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    plan = commands.add_parser("plan", parents=[common], help="show exactly what would be made", epilog=EXAMPLES)
    plan.add_argument("--workflow", type=Path, metavar="FILE", help="take templates and counts from this workflow")
    plan.add_argument("--json", action="store_true", help="print JSON")
    _add_plan_options(plan)

    run = commands.add_parser("run", parents=[common], help="make the images that are missing", epilog=EXAMPLES)
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="labelled folder; run again to complete it")
    validate = commands.add_parser(
        "validate", parents=[common], help="check a workflow against a server", epilog=EXAMPLES
    )
    for each in (run, validate):
        each.add_argument("workflow", type=Path, metavar="WORKFLOW", help="a workflow in API format")
        each.add_argument("--server", required=True, metavar="URL|embedded", help="a ComfyUI, or the built-in engine")
        each.add_argument(
            "--checkpoint-dir", type=Path, action="append", default=[], metavar="DIR",
            help="embedded only: a folder of checkpoints in diffusers format (repeatable)",
        )  # fmt: skip
        _add_plan_options(each)
        _add_image_options(each)

    serve = commands.add_parser("serve", parents=[common], help="run the embedded engine", epilog=EXAMPLES)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8188, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--base-directory", type=Path, required=True, metavar="DIR", help="holds output, input, models")
    serve.add_argument(
        "--checkpoint-dir", type=Path, action="append", default=[], metavar="DIR", help="more checkpoints"
    )
    serve.add_argument("--exit-with-parent", action="store_true", help="end when standard input closes")
    serve.add_argument("--temporary", action="store_true", help="remove the base directory when the server ends well")
    for each, command in ((plan, _plan), (run, _run), (validate, _validate), (serve, _serve)):
        each.formatter_class = raw
        each.set_defaults(command=command)
    return parser


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to make (default: what the workflow says)")
    group.add_argument("--classes", type=Path, metavar="PATH", help="text file, JSON file, or folder of class folders")
    group.add_argument("--per-class", type=int, metavar="N", help="images of each class")
    group.add_argument("--batch-size", type=int, metavar="N", help="images a queued job")
    group.add_argument("--template", action="append", metavar="TEXT", help="prompt template, as 'a photo of a {class}'")
    group.add_argument("--contexts", type=Path, metavar="FILE", help="values of {context}, one a line")
    group.add_argument("--styles", type=Path, metavar="FILE", help="values of {style}, one a line")
    group.add_argument("--negative", metavar="TEXT", help="negative prompt")
    group.add_argument("--plan-seed", type=int, metavar="N", help="number that every image's seed follows from")


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to make it (default: what the workflow says)")
    group.add_argument("--checkpoint", metavar="NAME", help="model, as the server lists it")
    group.add_argument("--width", type=int, metavar="PIXELS")
    group.add_argument("--height", type=int, metavar="PIXELS")
    group.add_argument("--steps", type=int, metavar="N")
    group.add_argument("--cfg", type=float, metavar="X", help="guidance: how closely to follow the prompt")
    group.add_argument("--sampler", metavar="NAME")
    group.add_argument("--scheduler", metavar="NAME")


def _options(args: argparse.Namespace) -> Options:
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


def _plan(args: argparse.Namespace) -> int:
    from .console import plan_table, plan_values

    options = _options(args)
    if args.workflow:
        workflow = patch(load_workflow(args.workflow), options)
        plan, batch_size = workflow.plan(), workflow.batch_size
    else:
        plan, batch_size = _plan_of(options), options.batch_size or DEFAULT_BATCH_SIZE
    print(json.dumps(plan_values(plan, batch_size), indent=1) if args.json else plan_table(plan, batch_size))
    return 0


def _plan_of(options: Options) -> GenerationPlan:
    """The plan of the options alone, with the defaults of the nodes."""
    if options.classes is None:
        raise PlanError("no classes; give --classes PATH (text file, JSON file or folder), or --workflow FILE")
    defaults = PromptTemplates()
    templates = PromptTemplates(
        templates=options.templates or defaults.templates,
        negative_prompt=(options.negative or "").strip(),
        contexts=options.contexts or (),
        styles=options.styles or (),
    )
    return GenerationPlan(
        options.classes, templates, options.images_per_class or DEFAULT_PER_CLASS, options.plan_seed or 0
    )


def _run(args: argparse.Namespace) -> int:
    from .console import ProgressBar
    from .runner import run_plan

    workflow = _patched(args)
    with ExitStack() as stack:
        server = _server(args, stack)
        progress = stack.enter_context(ProgressBar())
        summary = run_plan(workflow, server, args.out, on_progress=progress)
    if summary.made == 0:
        print(f"all {summary.total} images are there already: {summary.folder}")
    else:
        print(
            f"{summary.total} images, {summary.made} of them new at {summary.made / summary.seconds:.1f} images/s: "
            f"{summary.folder}"
        )
    return 0


def _patched(args: argparse.Namespace) -> Workflow:
    return patch(load_workflow(args.workflow), _options(args))


def _server(args: argparse.Namespace, stack: ExitStack) -> ServerSource:
    """The server that was asked for; nothing is started or connected yet."""
    if args.server == "embedded":
        from .launch import EmbeddedServer

        return stack.enter_context(EmbeddedServer(checkpoint_directories=args.checkpoint_dir))
    from .runner import GivenServer
    from .server import ComfyServer

    return GivenServer(stack.enter_context(ComfyServer(args.server)))


def _validate(args: argparse.Namespace) -> int:
    from .validation import validate, warnings

    workflow = _patched(args)
    plan = workflow.plan()
    with ExitStack() as stack:
        server = _server(args, stack).open()
        validate(workflow, server.object_info())
        url = server.url
    for warning in warnings(workflow):
        log.warning("warning: %s", warning)
    print(f"{workflow.source} can run on {url}: {len(plan)} images in {plan.batch_count(workflow.batch_size)} batches")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from .embedded import missing_requirements

    if missing := missing_requirements():
        raise SynthGridError(
            f"the embedded engine needs {', '.join(missing)}; install with: pip install -e '.[embedded]'"
        )
    # Before torch is loaded: threads that wait by spinning make a busy machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .embedded.server import serve

    serve(
        host=args.host,
        port=args.port,
        base_directory=args.base_directory,
        checkpoint_directories=tuple(args.checkpoint_dir),
        exit_with_parent=args.exit_with_parent,
    )
    if args.temporary:
        shutil.rmtree(args.base_directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
