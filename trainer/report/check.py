"""The report of a check: what it rejects and why, to be looked at before it is believed. No torch.

    <folder>.quality/report.html           answers, thresholds, groups, counts, the worst images
    <folder>.quality/report/<class>.html   all images of a class, the least likely first

No script and no external request. The page holds small pictures of the worst images itself. The
pages of the classes hold those of rejected images, which may be moved to the quarantine, and of
images in tar shards, at most 500 a page; otherwise they show the files of the labelled folder,
which must stay beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from comfy_nodes.labelset import folder_names
from comfy_nodes.labelset.quality.verdicts import Verdict, checked_folder, read_verdicts
from trainer.data.shards import ImageFile
from trainer.report.html import document, section, table, text
from trainer.report.sections.pictures import thumbnail
from trainer.runs import read_json_file, write_file

_PROMPTS_SHOWN = 30
_BINS = 24
_EMBEDDED = 500  # small pictures that the page of a class holds itself
_SCORES = {
    "label": ("Probability of its own class", "below"),
    "outlier": ("Outlier score", "above"),
    "real": ("Probability of being real", "below"),
}


def write_check_report(check: Path, packed: Mapping[str, ImageFile] | None = None) -> Path:
    """Writes the pages of a check's CSV file, which lies beside its JSON file; the first page's
    path. `packed` are the images that lie in tar shards, by file name.

    Raises:
        LabelsetError: the CSV file is damaged.
        ReportError: the JSON file is damaged, or a page cannot be written.
    """
    verdicts, summary = read_verdicts(check), read_json_file(check.with_suffix(".json"))
    folder = check.parent
    images = checked_folder(folder)
    names = folder_names(list(dict.fromkeys(each.label for each in verdicts)))
    sections = (
        _header(summary, images.name),
        _groups(summary),
        _thresholds(summary, verdicts),
        _acceptance(summary, names),
        _worst(summary, images, packed or {}),
        _provenance(summary, check),
    )
    for label, name in names.items():
        of_class = [each for each in verdicts if each.label == label]
        page = _class_page(label, of_class, images, packed or {})
        write_file(folder / "report" / f"{name}.html", _encoded(page))
    path = folder / "report.html"
    write_file(path, _encoded(document(f"SynthGrid check: {images.name}", "".join(sections))))
    return path


def group_line(group: Mapping[str, Any]) -> str:
    """ "boxer: 6 of 20 images look unlike all real ones"."""
    what = f"look like {group['instead']}" if group["instead"] else "look like other classes"
    if group["field"] == "class":
        where, what = group["label"], what if group["instead"] else "look unlike all real ones"
    else:
        where = f"{group['label'] or 'all classes'}, {group['field']} '{group['value']}'"
    return f"{where}: {group['wrong']} of {group['images']} images {what}"


def _encoded(page: str) -> bytes:
    return page.encode("utf-8", errors="xmlcharrefreplace")


def _header(summary: Mapping[str, Any], name: str) -> str:
    images, rejected = summary["images"], summary["rejected"]
    reasons = ", ".join(f"{count} by {reason}" for reason, count in summary["by_reason"].items())
    told, outlier = summary["real_or_synthetic"], summary["outlier"]
    sentences = [
        f"The label check rejects {summary['thresholds']['label']['real']:.1%} of the real images "
        "by the same rule: about as many right synthetic images must be expected among those that "
        "it rejects.",
        f"Real and synthetic images are told apart with AUC {told['auc']:.2f} ({told['low']:.2f} "
        f"to {told['high']:.2f}; 0.50 would be no difference)"
        + ("." if told["prompts_held_out"] else "; too few prompts to hold any out."),
    ]
    if outlier["auroc"] is not None:
        sentences.append(
            f"The outlier score {outlier['kind']} tells real classes that it has never seen with "
            f"AUROC {outlier['auroc']:.2f} (1.00 would be always, 0.50 by chance)"
            + ("." if outlier["sign"] > 0 else ", with the score turned round.")
        )
    missing = [
        f"<li>{count} images of {text(label)} are not judged: there are no real ones</li>"
        for label, count in summary["not_judged"].items()
    ]
    short = f"{rejected} of {images} images rejected" + f" ({reasons})" * bool(reasons)
    return (
        f'<header><p class="kicker">SynthGrid check · {text(name)}</p>'
        "<h1>Is each image what its label says?</h1>"
        f'<div class="answer"><p class="short">{text(short)}</p>'
        f"{''.join(f'<p>{text(each)}</p>' for each in sentences)}</div>"
        + (f'<ul class="alerts">{"".join(missing)}</ul>' if missing else "")
        + "</header>"
    )


def _groups(summary: Mapping[str, Any]) -> str:
    lines = [f"<li>{text(group_line(each))}</li>" for each in summary["groups"]]
    found = (
        f'<ul class="alerts">{"".join(lines)}</ul>'
        if lines
        else "<p>No class, template, context or style as a whole looks wrong.</p>"
    )
    return section(
        "Prompts to look at",
        found,
        note="A whole class or context that shows something else is not seen image by image. "
        "Nothing is rejected for this; change the wording, or give the class a definition. "
        "Corrected for the number of groups (Holm, 5%).",
    )


def _thresholds(summary: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    figures = []
    for name, (title, side) in _SCORES.items():
        limit = summary["thresholds"][name]
        values = [each.scores.get(name, math.nan) for each in verdicts]
        known = np.array([value for value in values if not math.isnan(value)])
        asked = name in summary["config"]["reject"]
        figures.append(
            f"<figure><figcaption>{title} <span>{'rejects' if asked else 'would reject'} {side} "
            f"{limit['threshold']:.3f}: {limit['synthetic']:.1%} of the synthetic, "
            f"{limit['real']:.1%} of the real images</span></figcaption>"
            f"{_histogram(known, limit['threshold'], title)}</figure>"
        )
    note = "The height of a bar is the square root of its number of images."
    return section("Scores", f'<div class="curves">{"".join(figures)}</div>', note=note)


def _histogram(values: np.ndarray, limit: float, label: str) -> str:
    if not len(values):
        return ""
    low, high = min(values.min(), limit), max(values.max(), limit)
    high = high if high > low else low + 1.0
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    # By square root: a few strange images beside a thousand usual ones must be seen.
    heights, width = 110 * np.sqrt(counts / max(int(counts.max()), 1)), 480 / _BINS
    bars = "".join(
        f'<rect x="{number * width + 1:.1f}" y="{120 - height:.1f}" '
        f'width="{width - 2:.1f}" height="{height:.1f}" fill="#2457a6"/>'
        for number, height in enumerate(heights.tolist())
    )
    x = 480 * (limit - low) / (high - low)
    ticks = "".join(
        f'<text x="{480 * part:.0f}" y="138" font-size="12" text-anchor="{anchor}" '
        f'fill="#5b6775">{low + part * (high - low):.2f}</text>'
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    return (
        f'<svg class="bars" viewBox="0 0 480 142" role="img" aria-label="{text(label)}">{bars}'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="120" stroke="#c2571a" stroke-width="2"/>'
        f'<line x1="0" x2="480" y1="120" y2="120" stroke="#c9d1da"/>{ticks}</svg>'
    )


def _acceptance(summary: Mapping[str, Any], names: Mapping[str, str]) -> str:
    def link(label: str) -> str:
        target = quote(f"report/{names[label]}.html")
        return f'<a href="{target}">{text(label)}</a>'

    classes = [_accepted(each, link(each["name"])) for each in summary["by_class"]]
    worst = sorted(summary["by_prompt"], key=lambda each: -each["rejected"] / each["images"])
    prompts = [_accepted(each, text(each["name"])) for each in worst[:_PROMPTS_SHOWN]]
    head = "<tr><th>{}</th><th>Accepted</th><th></th></tr>"
    parts = [table(head.format("Class"), classes, kind="grid")]
    if prompts:
        more = len(worst) - len(prompts)
        title = "Prompt, the worst first" + f" ({more} more in the JSON file)" * (more > 0)
        parts.append(table(head.format(title), prompts, kind="grid"))
    return section("Accepted images", *parts, note="A class leads to all of its images.")


def _accepted(count: Mapping[str, Any], name: str) -> str:
    kept = count["images"] - count["rejected"]
    share = 100 * kept / count["images"]
    return (
        f"<tr><td>{name}</td><td>{kept} of {count['images']}</td>"
        f'<td><span class="meter"><b style="width:{share:.0f}%"></b></span></td></tr>'
    )


def _worst(summary: Mapping[str, Any], images: Path, packed: Mapping[str, ImageFile]) -> str:
    cells = []
    for each in summary["worst"]:
        why = each["reason"] or f"kept; probability of its class {each['own']:.3f}"
        near = "".join(
            f"<div>{thumbnail(Path(path), 'a real image')}</div>" for path in each["nearest"]
        )
        shown = thumbnail(packed.get(each["file"], images / each["file"]), each["label"])
        cells.append(
            f'<div class="mistake"><div class="test">{shown}'
            f"<p><b>{text(each['label'])}</b><br>{text(why)}<br>{text(each['file'])}</p></div>"
            f'<div class="near">{near}</div></div>'
        )
    return section(
        "The least likely images",
        f'<div class="mistakes">{"".join(cells)}</div>' if cells else "",
        note="Below each, the real training images of its class that are nearest to it.",
    )


def _class_page(
    label: str, verdicts: Sequence[Verdict], images: Path, packed: Mapping[str, ImageFile]
) -> str:
    def order(each: Verdict) -> tuple[bool, float]:
        return not each.rejected, each.scores.get("label", 0.0)

    tiles, ordered = [], sorted(verdicts, key=order)
    embedded = [each for each in ordered if _is_embedded(each, packed)]
    left_out = {each.file_name for each in embedded[_EMBEDDED:]}
    for each in ordered:
        if each.file_name in left_out:
            continue
        own = each.scores.get("label", math.nan)
        words = each.reason or ("" if math.isnan(own) else f"{own:.3f}")
        tiles.append(
            f'<figure class="tile{" out" * each.rejected}">{_tile(each, images, packed)}'
            f"<figcaption>{text(words)}</figcaption></figure>"
        )
    kept = sum(not each.rejected for each in verdicts)
    more = f" {len(left_out)} more are not shown." * bool(left_out)
    return document(
        f"{label}: {images.name}",
        f'<header><p class="kicker"><a href="../report.html">SynthGrid check · '
        f"{text(images.name)}</a>"
        f"</p><h1>{text(label)}</h1><p>{kept} of {len(verdicts)} images accepted. Rejected ones "
        "come first, then the least likely; the number is the probability of the image's own "
        f'class.{more}</p></header><section><div class="tiles">{"".join(tiles)}</div></section>',
    )


def _is_embedded(verdict: Verdict, packed: Mapping[str, ImageFile]) -> bool:
    """Whether the page holds the picture: it may be moved away, or lies in a shard."""
    return verdict.rejected or verdict.file_name in packed


def _tile(verdict: Verdict, images: Path, packed: Mapping[str, ImageFile]) -> str:
    if _is_embedded(verdict, packed):
        file = packed.get(verdict.file_name, images / verdict.file_name)
        return thumbnail(file, verdict.file_name)
    source = quote(f"../../{images.name}/{verdict.file_name}", errors="surrogatepass")
    return f'<img loading="lazy" src="{source}" alt="{text(verdict.file_name)}">'


def _provenance(summary: Mapping[str, Any], check: Path) -> str:
    embedder, inputs = summary["embedder"], summary["inputs"]
    rows = {
        "scores": check.name,
        "embedder": f"{embedder['name']} {embedder['weights']} ({embedder['fingerprint']})",
        "seen at": f"{embedder['images_px']} pixels, all images the same way",
        "rejects by": ", ".join(summary["config"]["reject"]),
        "seed": summary["config"]["seed"],
        **{f"{part} images": digest for part, digest in inputs.items()},
        **summary["versions"],
    }
    lines = "".join(
        f"<tr><th scope='row'>{text(name)}</th><td>{text(value)}</td></tr>"
        for name, value in rows.items()
    )
    return section("Provenance", f'<table class="pair">{lines}</table>')
