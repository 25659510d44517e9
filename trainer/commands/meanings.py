"""`meanings`: which meaning of each class name the real images show, written into the bank."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser, text_table

if TYPE_CHECKING:
    from comfy_nodes.banks.prompt_bank import PromptBank
    from trainer.data.samples import Sample
    from trainer.quality.meanings.resolve import Resolved, Scorer

EXAMPLES = """  synthgrid bank animals.txt --offline --wordnet /usr/share/wordnet --out bank.json
  synthgrid meanings bank.json --real data/animals --wordnet /usr/share/wordnet
  synthgrid meanings bank.json --real data/animals --scorer clip --page meanings.html

taxonomy: WordNet's senses beside the ImageNet classes that lite0 takes the images for. clip: the
cosine of images and meanings, of any bank. Where images do not tell, nothing is chosen; a
definition that you wrote stays."""
_LONGEST = 44  # letters of a meaning in the table


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "meanings", examples=EXAMPLES)
    add = parser.add_argument
    add("bank", type=Path, metavar="BANK", help="a bank whose classes have meanings")
    add(
        "--real",
        type=Path,
        required=True,
        metavar="DIR",
        help="real images: train/<class>/, or <class>/; those of test/ are not looked at",
    )
    add("--scorer", choices=("taxonomy", "clip"), default="taxonomy", help="default taxonomy")
    add("--wordnet", type=Path, metavar="DIR", help="WordNet's files, for --scorer taxonomy")
    add("--clip", default="open_clip", metavar="NAME", help="open_clip:ARCHITECTURE/PRETRAINED")
    add("--weights", type=Path, metavar="FILE", help="weights of lite0 or of the CLIP, from a file")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default 0)")
    add("--overwrite", action="store_true", help="replace definitions that you wrote too")
    add("--out", type=Path, metavar="FILE", help="write here (default: into BANK)")
    add("--page", type=Path, metavar="FILE", help="also an HTML page with the images that decided")
    add("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(command=choose, wrong_usage=parser.error)


def choose(options: argparse.Namespace) -> int:
    """Prints a table and writes the bank."""
    from comfy_nodes.banks.prompt_bank import bank_text, read_prompt_bank
    from comfy_nodes.labelset import write_atomically
    from trainer.errors import ConfigError
    from trainer.progress import Progress
    from trainer.quality.meanings.resolve import resolve, with_definitions

    if options.scorer == "taxonomy" and options.wordnet is None:
        options.wrong_usage("--scorer taxonomy needs WordNet's files: --wordnet DIR")
    page = options.page.expanduser() if options.page else None
    if page is not None:
        _refuse_other(page)
    path = options.bank.expanduser()
    bank = read_prompt_bank(path)
    samples = _samples(options.real.expanduser(), bank)
    total = sum(len(samples[each]) for each in samples if bank.classes[each].meanings)
    with Progress("images", total=total, unit="images") as progress:
        score, facts = _scorer(options, progress.advance)
        found = resolve(bank, samples, score, overwrite=options.overwrite, seed=options.seed)
    out = options.out.expanduser() if options.out else path
    text = bank_text(with_definitions(bank, found, scorer=facts)).encode("utf-8")
    if not out.exists() or out.read_bytes() != text:
        if options.out and out.exists() and not out.samefile(path):
            raise ConfigError(f"{out} holds something else and is kept; give another --out")
        write_atomically(out, text)
    if page is not None:
        from trainer.report.meanings import write_meanings_page

        write_meanings_page(page, found)
    print(_json(found, facts) if options.json else _table(found, out))
    return 0


def _refuse_other(page: Path) -> None:
    """Raises ConfigError if the page would replace a file that is no page of this command."""
    from trainer.errors import ConfigError
    from trainer.report.meanings import is_meanings_page

    if page.exists() and not is_meanings_page(page):
        raise ConfigError(f"{page} holds something else and is kept; give another --page")


def _samples(folder: Path, bank: PromptBank) -> dict[str, list[Sample]]:
    """The real training images of the bank's classes, under the bank's names."""
    from trainer.data.samples import by_folder_name, quoted
    from trainer.errors import DataError
    from trainer.quality.images import load_real

    names = by_folder_name(bank.classes)
    found: dict[str, list[Sample]] = {}
    real = load_real(folder)
    for sample in real.train:
        name = names.get(sample.label)
        if name is not None:
            found.setdefault(name, []).append(sample)
    if not found:
        raise DataError(
            f"no class of the bank has images in {folder}, which has {quoted(real.classes)}; make "
            "the bank of these classes: synthgrid bank FOLDER"
        )
    return found


def _scorer(options: argparse.Namespace, tell: Any) -> tuple[Scorer, dict[str, Any]]:
    """The scorer, and what a bank says of it."""
    from trainer.quality.meanings import scorers
    from trainer.training.compute import pick_device

    device = pick_device(options.device)
    if options.scorer == "clip":
        from trainer.quality.embedding.embedders import load_embedder

        embedder = load_embedder(options.clip, weights=options.weights, device=device)
        return scorers.words_scorer(embedder, tell), {
            "scorer": embedder.name,
            "weights": embedder.fingerprint,
        }
    from comfy_nodes.language.wordnet import WordNet
    from trainer.quality.meanings.taxonomy import imagenet_offsets, lite0_classifier

    side_px, classify, weights = lite0_classifier(options.weights, device)
    nouns = WordNet(options.wordnet.expanduser())
    score = scorers.taxonomy_scorer(nouns, imagenet_offsets(), side_px, classify, tell)
    return score, {"scorer": "taxonomy", "weights": weights}


def _table(found: Sequence[Resolved], out: Path) -> str:
    header = ("class", "", "meaning", "score", "runner-up", "margin", "95% interval", "agree")
    rows = [header, *map(_row, found)]
    chosen = sum(each.outcome == "chosen" for each in found)
    return "\n".join(
        [*text_table(rows, left=(0, 1, 2, 4)), "", f"{chosen} of {len(found)} definitions: {out}"]
    )


def _row(found: Resolved) -> tuple[str, ...]:
    decision = found.decision
    start = (found.label, found.outcome, _short(found.best))
    if decision is None:
        return (*start, "", "", "", "", "")
    if decision.runner_up < 0:
        return (*start, f"{decision.score:.3f}", "", "", "", "")
    return (
        *start,
        f"{decision.score:.3f}",
        _short(found.runner_up),
        f"{decision.margin:.3f}",
        f"{decision.low:.3f} to {decision.high:.3f}",
        f"{decision.share:.0%}",
    )


def _short(meaning: str) -> str:
    return meaning if len(meaning) <= _LONGEST else meaning[: _LONGEST - 1] + "…"


def _json(found: Sequence[Resolved], facts: dict[str, Any]) -> str:
    values = [
        {
            "class": each.label,
            "outcome": each.outcome,
            "definition": each.definition,
            "meaning": each.best,
            "runner_up": each.runner_up,
            "images": len(each.samples),
            "decision": None
            if each.decision is None
            else each.decision.numbers | {"share_low": each.decision.share_low},
        }
        for each in found
    ]
    return json.dumps(facts | {"classes": values}, indent=1, ensure_ascii=False)
