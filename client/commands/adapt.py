"""`adapt`: makes a stock Stable Diffusion workflow one of SynthGrid's."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowError
from .options import new_parser
from .plan import DEFAULT_PER_CLASS
from .servers import add_access_options, described_by, replaced_by, saved_object_info, server_of

if TYPE_CHECKING:
    from ..workflow.stock.adapt import Adapted

log = logging.getLogger(__name__)

EXAMPLES = """  synthgrid adapt my_workflow_api.json --class-word cat --out my_classes_api.json
  synthgrid adapt my_workflow.json --server http://127.0.0.1:8188 --classes classes.txt \\
      --out my_classes_api.json
the result is in API format, which ComfyUI's editor opens too: drag the file into it"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "adapt", examples=EXAMPLES)
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW", help="a workflow, in API or editor format"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write (default: standard output); an existing file is never replaced",
    )
    parser.add_argument(
        "--class-word",
        metavar="WORD",
        help="the word of the prompt that becomes {class} (default: {class} is put first)",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="PATH",
        help="text file, JSON file, or folder with one folder per class (default: examples)",
    )
    parser.add_argument(
        "--per-class", type=int, default=DEFAULT_PER_CLASS, metavar="N", help="images per class"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per queued job")
    parser.add_argument("--json", action="store_true", help="print the changes as JSON")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--server", metavar="URL|embedded", help="for editor format: the server whose nodes it uses"
    )
    group.add_argument(
        "--object-info",
        type=Path,
        metavar="FILE",
        help="for editor format: a saved answer of a server to GET /object_info",
    )
    add_access_options(parser)
    parser.set_defaults(command=adapt_file, checkpoint_dir=[], input_directory=None)


def adapt_file(args: argparse.Namespace) -> int:
    """Writes the new workflow, and says what was changed, one line per node."""
    from comfy_nodes.plan import read_classes

    from ..workflow.changes.options import Options
    from ..workflow.loading import load_for
    from ..workflow.stock.adapt import adapt

    _refuse_existing(args.out)
    Options(images_per_class=args.per_class, batch_size=args.batch_size)  # checks them
    with ExitStack() as stack:
        source = cache(lambda: server_of(args, stack))
        workflow, notes = load_for(
            args.workflow,
            lambda: _object_info(args, source),
            lambda: {} if args.server is None else replaced_by(source().open()),
        )
    adapted = adapt(
        workflow,
        class_word=args.class_word,
        classes=read_classes(args.classes) if args.classes else None,
        images_per_class=args.per_class,
        batch_size=args.batch_size,
    )
    for note in notes:
        log.warning("warning: %s", note)
    _write(adapted, args)
    return 0


def _refuse_existing(out: Path | None) -> None:
    if out is not None and out.expanduser().exists():
        raise WorkflowError(f"{out} exists; choose another --out")


def _object_info(args: argparse.Namespace, source: Any) -> Mapping[str, Any]:
    """What describes the nodes of a file in editor format; {} for one that needs no server."""
    from ..workflow.convert import is_editor_format
    from ..workflow.graph import read_json

    if args.server is not None:
        return described_by(source().open())
    if args.object_info is None:
        if not is_editor_format(read_json(args.workflow)):
            return {}
        raise WorkflowError(
            f"{args.workflow} is in editor format, whose values only a server can name; add "
            "--server URL, or --object-info FILE"
        )
    return saved_object_info(args.object_info)


def _write(adapted: Adapted, args: argparse.Namespace) -> None:
    from comfy_nodes.labelset import write_atomically

    graph = adapted.workflow.graph
    text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
    if args.out is not None:
        _refuse_existing(args.out)
        write_atomically(args.out.expanduser(), text.encode("utf-8"))
    if args.json:
        values = {
            "workflow": str(args.workflow),
            "out": str(args.out) if args.out else None,
            "changes": [{"node": each.node, "text": each.text} for each in adapted.changes],
            "graph": None if args.out else graph,
        }
        print(json.dumps(values, indent=1, ensure_ascii=False))
        return
    for change in adapted.changes:
        log.info("%s", change.text)
    if args.out is None:
        print(text, end="")
    else:
        log.info("%d nodes: %s", len(graph), args.out)
