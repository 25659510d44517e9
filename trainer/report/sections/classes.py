"""What happened to single classes: changes with intervals, and which are confused."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from trainer.analysis.cellkey import CellKey
from trainer.analysis.comparisons import Comparison
from trainer.analysis.metrics import confusion_matrix
from trainer.analysis.results import Results
from trainer.analysis.statistics.stats import Estimate
from trainer.analysis.tails import frequency_groups
from trainer.report.html import picture, section, table, text
from trainer.report.sections.grid import model_name
from trainer.report.wording import arm_title, budget_note, interval, percent, points

_CLASSES_IN_TABLE = 20  # a confusion matrix of more classes is drawn as a picture
_TOP_CONFUSIONS = 10


def class_section(results: Results) -> str:
    """For each headline cell, each class's share of correct answers, compared with real only."""
    blocks = []
    for model in results.models:
        for key in results.headlines(model):
            comparison = results.comparison(key)
            if comparison:
                shown = _group_table(results, key) + _class_table(results, key, comparison)
                blocks.append(f"<figure>{_caption(results, key)}{shown}</figure>")
    note = (
        "Share of a class's test images that are classified correctly (recall), mean over seeds, "
        "and its change from real only with a 95% interval (Agresti and Min's for few images, "
        "widened for the variation between seeds). These intervals are not corrected for the "
        "number of classes: of 100 classes that did not change, about 5 exclude 0 by chance."
    )
    if frequency_groups(results.grid.info["images_per_class"]["train"]):
        note += (
            " Head, middle and tail are thirds of the classes by their number of real training "
            "images, each class weighing the same; their intervals are not corrected either."
        )
    return section(
        "Class by class",
        f'<div class="classes">{"".join(blocks)}</div>' if blocks else "",
        note=note,
    )


def _caption(results: Results, key: CellKey) -> str:
    cell = text(arm_title(results.grid, key) + budget_note(key))
    return f"<figcaption>{model_name(results, key.model)}<br><span>{cell}</span></figcaption>"


def _group_table(results: Results, key: CellKey) -> str:
    """Head, middle and tail classes, where classes differ a lot in their real images."""
    rows = [
        f"<tr><th scope='row'>{name}</th><td>{len(each.classes)}</td>"
        f"<td>{each.real[0]} to {each.real[1]}</td>"
        f"<td>{percent(each.before)} → {percent(each.after)}</td>{_class_change(each.change)}</tr>"
        for name, each in results.groups(key).items()
    ]
    head = (
        "<tr><th>Group</th><th>Classes</th><th>Real images per class</th>"
        "<th>Correct, percent</th><th>Change, points</th></tr>"
    )
    return table(head, rows, kind="grid byclass") if rows else ""


def _class_table(results: Results, key: CellKey, comparison: Comparison) -> str:
    before, after = (_right_shares(results, each) for each in (results.baseline(key.model), key))
    counts = np.bincount(results.true, minlength=len(results.classes))
    order = sorted(
        range(len(results.classes)), key=lambda label: (-comparison.classes[label].value, label)
    )
    rows = [
        f"<tr><th scope='row'>{text(results.classes[label])}</th><td>{counts[label]}</td>"
        f"<td>{percent(before[label])} → {percent(after[label])}</td>"
        f"{_class_change(comparison.classes[label])}</tr>"
        for label in order
    ]
    head = "<tr><th>Class</th><th>Images</th><th>Correct, percent</th><th>Change, points</th></tr>"
    clear = sum(each.excludes_zero for each in comparison.classes)
    tally = f'<p class="note">{clear} of {len(order)} intervals exclude 0.</p>'
    return table(head, rows, kind="grid byclass") + tally


def _right_shares(results: Results, key: CellKey) -> np.ndarray:
    right = np.mean(
        [predicted == results.true for predicted in results.predicted[key].values()], axis=0
    )
    counts = np.maximum(np.bincount(results.true, minlength=len(results.classes)), 1)
    return np.bincount(results.true, weights=right, minlength=len(results.classes)) / counts


def _class_change(change: Estimate) -> str:
    mark = (" better" if change.value > 0 else " worse") if change.excludes_zero else ""
    spread = text(interval(change).removeprefix("95% CI "))
    value = f'<b>{points(change.value)}</b> <span class="spread">{spread}</span>'
    return f'<td class="delta{mark}">{value}</td>'


def confusion_section(results: Results) -> str:
    """Confusion of real only and of each headline cell."""
    blocks = []
    draw = _confusion_table if len(results.classes) <= _CLASSES_IN_TABLE else confusion_picture
    for model in results.models:
        keys = [results.baseline(model), *results.headlines(model)]
        for key in keys:
            if results.predicted.get(key):
                predicted = np.concatenate(list(results.predicted[key].values()))
                true = np.tile(results.true, len(results.predicted[key]))
                matrix = confusion_matrix(true, predicted, len(results.classes))
                blocks.append(
                    f"<figure>{_caption(results, key)}{draw(matrix, results.classes)}</figure>"
                )
    note = "Test images summed over seeds; rows are true classes, columns are predicted classes."
    return section(
        "Confusion", f'<div class="confusions">{"".join(blocks)}</div>' if blocks else "", note=note
    )


def _confusion_table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = (
        "<tr><th></th>"
        + "".join(f"<th><span>{text(label)}</span></th>" for label in classes)
        + "</tr>"
    )
    rows = []
    for row, label in enumerate(classes):
        tinted = "".join(
            f"<td{_tint(shares[row, column], right=row == column)}>"
            f"{matrix[row, column] or '·'}</td>"
            for column in range(len(classes))
        )
        rows.append(f"<tr><th scope='row'>{text(label)}</th>{tinted}</tr>")
    wide = " long" if max(map(len, classes)) > 3 else ""
    return table(head, rows, kind=f"confusion{wide}")


def _tint(share: float, *, right: bool) -> str:
    if not share:
        return ' class="zero"'
    colour = "36,87,166" if right else "194,87,26"
    ink = ";color:#fff" if share > 0.55 else ""
    return f' style="background:rgba({colour},{0.08 + 0.87 * share:.2f}){ink}"'


def confusion_picture(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """All cells as a picture, and the pairs confused most often, for data with many classes."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pixels = np.stack(
        [255 - shares * (255 - channel) for channel in (36, 87, 166)], axis=-1
    ).astype(np.uint8)
    scale = max(1, 360 // len(classes))
    image = Image.fromarray(pixels).resize((len(classes) * scale,) * 2, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    wrong = matrix * (1 - np.eye(len(classes), dtype=np.int64))
    top = np.argsort(wrong, axis=None)[::-1][:_TOP_CONFUSIONS]
    found = [divmod(int(place), len(classes)) for place in top if wrong.flat[place]]
    items = "".join(
        f"<li>{text(classes[a])} mistaken for {text(classes[b])}: {wrong[a, b]}</li>"
        for a, b in found
    )
    return picture(buffer.getvalue(), "png", "confusion matrix") + f"<ol>{items}</ol>"
