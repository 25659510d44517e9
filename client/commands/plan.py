"""`plan`: shows exactly what would be made, before anything is."""

from __future__ import annotations

import argparse
import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_nodes.banks.prompt_bank import PromptBank
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import GenerationPlan, PromptTemplates
from comfy_nodes.plan.caption_plan import AnyPlan, CaptionPlan

from ..workflow.changes.options import Options, bank_for, patch, wildcard_in
from .options import add_plan_options, add_rows_option, new_parser, options_of, rows_of

if TYPE_CHECKING:
    from ..workflow.graph import Workflow

DEFAULT_PER_CLASS = 30
DEFAULT_BATCH_SIZE = 8
SAMPLE_PER_CLASS = 16  # images from which `synthgrid estimate` can tell
EXAMPLES = """  synthgrid plan --classes data/digits/train --per-class 30
  synthgrid plan --classes animals.txt --template "a photo of a {class}, {context}" \\
      --contexts contexts.txt
  synthgrid plan --captions captions.txt --per-prompt 10
  synthgrid plan --workflow workflows/api/sd15_class_prompts.json --json"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "plan", examples=EXAMPLES)
    parser.add_argument(
        "--workflow",
        type=Path,
        metavar="FILE",
        help="take templates and counts from this workflow, in API or editor format",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_plan_options(parser)
    add_rows_option(parser)
    parser.set_defaults(command=show_plan)


def show_plan(args: argparse.Namespace) -> int:
    """Prints counts and prompts."""
    from .console import plan_table, plan_values

    options = options_of(args)
    if args.workflow:
        workflow = patch(_workflow(args.workflow), options)
        plan, batch_size = workflow.plan(), workflow.batch_size
    else:
        plan, batch_size = _plan_of(options), options.batch_size or DEFAULT_BATCH_SIZE
    rows = rows_of(args.rows, plan)
    if args.json:
        print(json.dumps(plan_values(plan, batch_size, rows), indent=1))
        return 0
    print(plan_table(plan, batch_size, rows))
    if isinstance(plan, GenerationPlan) and plan.images_per_class > SAMPLE_PER_CLASS:
        classes = f" --classes {shlex.quote(str(args.classes))}" if args.classes else ""
        print(
            "\nmake a sample first, with the options of this plan:\n  synthgrid run WORKFLOW "
            f"--server URL{classes} --per-class {SAMPLE_PER_CLASS} --out SAMPLE\n"
            "then ask whether the rest will help:\n"
            "  synthgrid estimate --real DIR --synthetic SAMPLE"
        )
    return 0


def _workflow(path: Path) -> Workflow:
    from ..embedded.registry import Registry
    from ..workflow.loading import load_for_plan

    registry = Registry()
    ours = [name for name in registry.classes if name.startswith("SynthGrid")]
    return load_for_plan(path, {name: registry.describe(name) for name in ours})


def _plan_of(options: Options) -> AnyPlan:
    """The plan of the options alone, with the nodes' defaults."""
    if options.captions is not None:
        return CaptionPlan(
            options.captions,
            (options.negative or "").strip(),
            options.images_per_prompt or 1,
            options.plan_seed or 0,
        )
    if options.classes is None:
        raise PlanError(
            "no classes; give --classes PATH (text file, JSON file or folder), --captions FILE, or "
            "--workflow FILE"
        )
    defaults = PromptTemplates()
    templates = options.templates or defaults.templates
    bank = bank_for(options.classes, options.bank or PromptBank(), options)
    texts = PromptTemplates.with_bank(
        bank,
        partial(wildcard_in, options.wildcards),
        templates=templates,
        contexts=options.contexts or (),
        styles=options.styles or (),
        negative_prompt=(options.negative or "").strip(),
    )
    return GenerationPlan(
        options.classes,
        texts,
        options.images_per_class or DEFAULT_PER_CLASS,
        options.plan_seed or 0,
        options.images_per_prompt or 1,
        options.strengths or (),
    )
