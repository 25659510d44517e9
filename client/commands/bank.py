"""`bank`: class names become a prompt bank, by a language model or offline."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ClientError, FolderError, RunIncomplete
from .options import new_parser
from .servers import access_of, add_access_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from comfy_nodes.banks.prompt_bank import PromptBank
    from comfy_nodes.plan import ClassEntry

    from ..prompts.asking import Asked

EXAMPLES = """  synthgrid bank animals.txt --offline --out bank.json
  synthgrid bank animals.txt --llm http://127.0.0.1:11434/v1 --model llama3.2 --out bank.json
  synthgrid bank animals.txt --llm https://api.example.org/v1 --model NAME --token-env KEY \\
      --budget-calls 40 --out bank.json
  synthgrid bank animals.txt --model NAME --dry-run

Then read bank.json, change what you like, and: synthgrid run WORKFLOW --bank bank.json ...
Answers are kept in bank.answers.jsonl: the same command asks nothing twice."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "bank", examples=EXAMPLES)
    add = parser.add_argument
    add("classes", type=Path, metavar="CLASSES", help="text file, JSON file, or class folders")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--llm", metavar="URL", help="an OpenAI-compatible server, up to /v1")
    how.add_argument(
        "--offline", action="store_true", help="contexts and styles that suit any object"
    )
    how.add_argument(
        "--dry-run", action="store_true", help="print the questions and how many there may be"
    )
    add("--model", metavar="NAME", help="with --llm: the model, as the server calls it")
    add("--contexts", type=int, default=20, metavar="N", help="for each class (default: 20)")
    add("--styles", type=int, default=8, metavar="N", help="for each class (default: 8)")
    add("--temperature", type=float, default=0.8, metavar="X", help="of the model (default: 0.8)")
    add("--seed", type=int, default=0, metavar="N", help="of the model's draws (default: 0)")
    add(
        "--ban",
        action="append",
        default=[],
        metavar="WORD",
        help="drop phrases with this word too (repeatable)",
    )
    add("--budget-calls", type=int, metavar="N", help="send at most N requests")
    add("--wordnet", type=Path, metavar="DIR", help="with --offline: meanings from WordNet's files")
    add("--out", type=Path, default=Path("bank.json"), metavar="FILE", help="default: bank.json")
    add("--overwrite", action="store_true", help="replace FILE if it says something else")
    add("--json", action="store_true", help="print what was made as JSON")
    add_access_options(parser)
    parser.set_defaults(command=make_bank, wrong_usage=parser.error)


def make_bank(args: argparse.Namespace) -> int:
    """Writes the bank, or shows the questions."""
    from comfy_nodes.plan import read_classes

    if not (args.llm or args.offline or args.dry_run):
        args.wrong_usage("give a server, --llm URL, or --offline, or --dry-run")
    if not args.offline and not args.model:
        args.wrong_usage("give the model: --model NAME")
    classes = read_classes(args.classes.expanduser())
    out = args.out.expanduser()
    if args.offline:
        bank = _offline(args, classes)
    elif args.dry_run:
        return _dry_run(args, classes)
    else:
        bank = _written(args, classes, out)
    _write(out, bank, overwrite=args.overwrite)
    _show(args, bank, out)
    return 0


def _offline(args: argparse.Namespace, classes: Sequence[ClassEntry]) -> PromptBank:
    from ..prompts.offline import offline_bank

    return offline_bank(
        classes,
        contexts_each=args.contexts,
        styles_each=args.styles,
        wordnet=args.wordnet and args.wordnet.expanduser(),
    )


def _asked(args: argparse.Namespace) -> Asked:
    from ..prompts.asking import Asked

    try:
        return Asked(args.model, args.contexts, args.styles, args.temperature, args.seed)
    except ValueError as error:
        raise ClientError(str(error)) from None


def _dry_run(args: argparse.Namespace, classes: Sequence[ClassEntry]) -> int:
    from ..prompts.asking import question
    from ..prompts.writing import MOST_SAMPLES

    asked = _asked(args)
    others = [entry.name for entry in classes]
    questions = [question(entry, others, asked, 0)["messages"] for entry in classes]
    calls = MOST_SAMPLES * len(classes)
    letters = sum(len(each["content"]) for messages in questions for each in messages)
    tokens = MOST_SAMPLES * (letters // 2 + len(classes) * asked.max_tokens)
    if args.json:
        print(json.dumps({"questions": questions, "most_calls": calls, "most_tokens": tokens}))
        return 0
    for entry, messages in zip(classes, questions, strict=True):
        print(f"--- {entry.name}\n{messages[-1]['content']}\n")
    print(
        f"{len(classes)} questions; at most {calls} calls, not counting those repeated because the "
        f"server was busy, and at most about {tokens:,} tokens "
        "(half as many as letters in, all that an answer may have out)"
    )
    return 0


def _written(args: argparse.Namespace, classes: Sequence[ClassEntry], out: Path) -> PromptBank:
    from comfy_nodes.language.phrases import BANNED

    from ..prompts.answers import Answers
    from ..prompts.endpoint import ChatEndpoint
    from ..prompts.writing import write_bank

    answers = Answers(out.with_name(f"{out.stem}.answers.jsonl"))
    endpoint = ChatEndpoint(
        args.llm, access=access_of(args), on_request=_budget(args.budget_calls, answers.path)
    )
    done = 0

    def tell(entry: ClassEntry, contexts: int, styles: int) -> None:
        nonlocal done
        done += 1
        few = " (fewer than asked)" * (contexts < args.contexts or styles < args.styles)
        text = f"{done} of {len(classes)} classes: {entry.name}, {contexts} contexts"
        print(f"{text}, {styles} styles{few}", file=sys.stderr)

    try:
        return write_bank(
            classes, endpoint, answers, _asked(args), banned=(*BANNED, *args.ban), on_class=tell
        )
    finally:
        endpoint.close()


def _budget(most: int | None, answers: Path) -> Callable[[], None]:
    sent = 0

    def count() -> None:
        nonlocal sent
        if most is not None and sent >= most:
            raise RunIncomplete(
                f"the budget of {most} requests is used up; answers are kept in {answers}: "
                "the same command goes on from there"
            )
        sent += 1

    return count


def _write(out: Path, bank: PromptBank, *, overwrite: bool) -> None:
    from comfy_nodes.banks.prompt_bank import bank_text
    from comfy_nodes.labelset.files import write_atomically

    data = bank_text(bank).encode("utf-8")
    try:
        if out.exists() and out.read_bytes() != data and not overwrite:
            raise FolderError(
                f"{out} exists and says something else; give another --out, or --overwrite"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, data)
    except OSError as error:
        raise FolderError(f"cannot write {out}: {error.strerror or error}") from error


def _show(args: argparse.Namespace, bank: PromptBank, out: Path) -> None:
    counts = {
        name: {
            "meanings": len(each.meanings),
            "contexts": len(each.contexts),
            "styles": len(each.styles),
        }
        for name, each in bank.classes.items()
    }
    shared = {"contexts": len(bank.contexts), "styles": len(bank.styles)}
    if args.json:
        print(json.dumps({"bank": str(out), "shared": shared, "classes": counts}))
        return
    own = sum(each["contexts"] + each["styles"] for each in counts.values())
    print(
        f"{out}: {len(counts)} classes with {own} phrases of their own, "
        f"{shared['contexts']} shared contexts, {shared['styles']} shared styles. "
        f"Read it, then: synthgrid plan --classes {args.classes} --bank {out} "
        '--template "a photo of a {class}, {context}, {style}"'
    )
