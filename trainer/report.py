"""From a grid's folder to results.csv and one self-contained report.html. Reads runs only; imports no torch.

No script, no external request: pictures are data URIs, the style is inline. The parts are small functions that
return HTML; trainer.results has the numbers, trainer.plots the curves.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.arms import arm_of_ratio
from trainer.errors import ReportError
from trainer.metrics import METRICS, confusion_matrix
from trainer.plots import Curve, curve_svg
from trainer.results import (
    HEADLINE_METRIC,
    Cell,
    added_per_class,
    answers,
    cells_of,
    interval,
    model_title,
    per_class,
    percent,
    points,
    ratios_of,
    results_csv,
    warnings,
)
from trainer.runs import SAMPLES_FILE, Grid, read_grid, read_predictions, write_file
from trainer.stats import Summary
from trainer.style import STYLE

REPORT_FILE, RESULTS_FILE = "report.html", "results.csv"
_CLASSES_IN_TABLE = 20  # a confusion matrix of more classes is drawn as a picture
_TOP_CONFUSIONS = 10


def write_report(root: Path) -> Path:
    """Writes results.csv and report.html into the grid's folder and returns the report's path.

    Raises:
        ReportError: the folder holds no grid, or one that is damaged or cannot be written.
    """
    grid = read_grid(root)
    write_file(root / RESULTS_FILE, results_csv(grid))
    write_file(root / REPORT_FILE, report_html(grid).encode("utf-8", errors="xmlcharrefreplace"))
    return root / REPORT_FILE


def report_html(grid: Grid) -> str:
    """The whole page."""
    cells = cells_of(grid)
    parts = [
        _answer_part(grid, cells),
        _section("The grid", _grid_table(grid, cells), _grid_notes(grid)),
        _section("Change against real images only", _change_table(grid, cells), _change_notes()),
        _section("Each metric over the synthetic ratio", _curves(grid, cells), _curve_notes()),
        _section("Real beside synthetic", _contact_sheet(grid), _sheet_note(grid)),
        _section("Confusion", _confusions(grid, cells), "Test images summed over seeds; rows are true classes, columns predicted ones."),
        _section("How it was made", _provenance(grid)),
    ]  # fmt: skip
    title = f"SynthGrid: {grid.root.resolve().name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _answer_part(grid: Grid, cells: list[Cell]) -> str:
    sentences = "".join(f"<p>{_text(sentence)}</p>" for sentence in answers(grid, cells))
    alerts = "".join(f"<li>{_text(text)}</li>" for text in warnings(grid, cells))
    alerts = f'<ul class="alerts">{alerts}</ul>' if alerts else ""
    facts = {
        "classes": str(len(grid.info["classes"])),
        "real images a class": per_class(grid, "train"),
        "test images": str(sum(grid.info["images_per_class"]["test"])),
        "runs": f"{sum(run.status == 'done' for run in grid.runs)} of {len(grid.runs)}",
    }
    tiles = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts.items())
    return (
        f'<header><p class="kicker">SynthGrid report · {_text(grid.root.resolve().name)}</p>'
        "<h1>Do synthetic images help?</h1>"
        f'<div class="answer">{sentences}</div>{alerts}<dl class="facts">{tiles}</dl></header>'
    )


def _section(title: str, body: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{_text(title)}</h2>{body}{note}</section>"


def _grid_table(grid: Grid, cells: list[Cell]) -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in METRICS.values())
    best = {
        (model, metric): max(cell.values[metric].mean for cell in cells if cell.model == model)
        for model in {cell.model for cell in cells}
        for metric in METRICS
    }
    done = {(cell.model, cell.ratio): cell for cell in cells}
    rows = []
    for model in grid.info["config"]["models"]:
        rows.append(_group_row(grid, model, columns=len(METRICS) + 2))
        for ratio in ratios_of(grid):
            cell = done.get((model, ratio))
            shown = _metric_cells(cell, best) if cell else _no_cells(grid, model, ratio)
            rows.append(f"<tr><td>{_ratio_name(grid, ratio)}</td>{shown}</tr>")
    return _table(f"<tr><th>Synthetic a class</th>{head}<th>Seeds</th></tr>", rows, kind="grid")


def _group_row(grid: Grid, model: str, *, columns: int) -> str:
    return f'<tr class="group"><th scope="rowgroup" colspan="{columns}">{_model_name(grid, model)}</th></tr>'


def _metric_cells(cell: Cell, best: dict[tuple[str, str], float]) -> str:
    shown = []
    for metric in METRICS:
        top = ' class="best"' if cell.values[metric].mean == best[cell.model, metric] else ""
        mean, _, spread = percent(cell.values[metric]).partition(" ")
        shown.append(f'<td{top}><b>{mean}</b> <span class="spread sd">{spread}</span></td>')
    return "".join(shown) + f"<td>{len(cell.seeds)}</td>"


def _no_cells(grid: Grid, model: str, ratio: float) -> str:
    arm = arm_of_ratio(ratio).name
    failed = any(run.model == model and run.arm == arm for run in grid.failed())
    return f'<td class="missing" colspan="{len(METRICS) + 1}">{"failed" if failed else "not trained yet"}</td>'


def _model_name(grid: Grid, model: str) -> str:
    entry = grid.info["models"][model]
    tag = ' <span class="tag">untrained backbone</span>' if entry["weights"] == "untrained" else ""
    return f"{_text(entry['title'])}{tag}"


def _ratio_name(grid: Grid, ratio: float) -> str:
    if not ratio:
        return "none"
    return f'{_text(added_per_class(grid, ratio))} <span class="spread">ratio {ratio:g}</span>'


def _grid_notes(grid: Grid) -> str:
    notes = ["Percent on the test images: mean ± standard deviation over seeds; a model's best mean is marked."]
    if len(set(grid.info["images_per_class"]["test"])) == 1:
        notes.append("The test set is balanced, so macro recall equals accuracy: read macro F1.")
    return _text(" ".join(notes))


def _change_table(grid: Grid, cells: list[Cell]) -> str:
    rows: list[str] = []
    for model in grid.info["config"]["models"]:
        found = [
            _change_row(grid, cell, change)
            for cell in cells
            if cell.model == model and (change := cell.changes[HEADLINE_METRIC])
        ]
        rows += [_group_row(grid, model, columns=4), *found] if found else []
    if not rows:
        return '<p class="empty">No cell with synthetic images is finished.</p>'
    head = "<tr><th>Synthetic a class</th><th>Macro F1, points</th><th>Interval</th><th>Verdict</th></tr>"
    return _table(head, rows, kind="grid changes")


def _change_row(grid: Grid, cell: Cell, change: Summary) -> str:
    verdict = ("better" if change.mean > 0 else "worse") if change.excludes_zero else "no measurable change"
    return (
        f"<tr><td>{_ratio_name(grid, cell.ratio)}</td><td><b>{points(change.mean)}</b></td><td>{_text(interval(change))}</td>"
        f'<td><span class="verdict {verdict.split()[0]}">{verdict}</span></td></tr>'
    )


def _change_notes() -> str:
    return _text(
        "Paired by seed: the same initialisation and validation split with and without synthetic images. Student's t "
        "over seeds, which covers initialisation, split, batch order and synthetic draw, but not the choice of test "
        "images. With three seeds the interval is wide, and it is not corrected for looking at several ratios."
    )


def _curves(grid: Grid, cells: list[Cell]) -> str:
    figures = []
    for metric, title in METRICS.items():
        curves = []
        for model in grid.info["config"]["models"]:
            row = [cell for cell in cells if cell.model == model]
            if row:
                values = [cell.values[metric] for cell in row]
                curves.append(Curve(_short_title(grid, model), [cell.ratio for cell in row], values))
        if curves:
            figures.append(_picture(curve_svg(curves, label=title), "svg+xml", f"{title} over the synthetic ratio"))
    return f'<div class="curves">{"".join(figures)}</div>' if figures else '<p class="empty">No run is finished.</p>'


def _short_title(grid: Grid, model: str) -> str:
    return model_title(grid, model).replace(" (frozen) - untrained backbone", ", untrained backbone")


def _curve_notes() -> str:
    return _text("Points are means over seeds, bands and bars one standard deviation.")


def _contact_sheet(grid: Grid) -> str:
    layout, path = grid.info["samples"], grid.root / SAMPLES_FILE
    try:
        with Image.open(path) as image:
            sheet = image.convert("RGB")
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error}); run the same grid command again") from error
    tile, real, made = layout["tile_px"], layout["real"], layout["synthetic"]
    rows = []
    for number, label in enumerate(layout["classes"]):
        top, split, right = number * tile, real * tile, (real + made) * tile
        strips = _strip(sheet, (0, top, split, top + tile), f"real images of {label}")
        strips += _strip(sheet, (split, top, right, top + tile), f"synthetic images of {label}") if made else ""
        rows.append(f"<tr><th scope='row'>{_text(label)}</th>{strips}</tr>")
    head = "<tr><th>Class</th><th>Real</th>" + "<th>Synthetic</th>" * bool(made) + "</tr>"
    return _table(head, rows, kind="sheet")


def _strip(sheet: Image.Image, box: tuple[int, int, int, int], label: str) -> str:
    buffer = io.BytesIO()
    sheet.crop(box).save(buffer, format="JPEG", quality=90)
    return f"<td>{_picture(buffer.getvalue(), 'jpeg', label)}</td>"


def _sheet_note(grid: Grid) -> str:
    shown = grid.info["samples"]["real"]
    return _text(f"The first {shown} training images of each class, beside the first synthetic ones.")


def _confusions(grid: Grid, cells: list[Cell]) -> str:
    classes = list(grid.info["classes"])
    number = {label: position for position, label in enumerate(classes)}
    blocks = []
    for cell in cells:
        predictions = [
            each
            for run in grid.of(cell.model, arm_of_ratio(cell.ratio).name)
            for each in read_predictions(grid.root, run.run_id)
        ]
        try:
            true, predicted = ([number[getattr(each, side)] for each in predictions] for side in ("true", "predicted"))
        except KeyError as error:
            raise ReportError(f"{grid.root}: predictions name the unknown class {error}; run the grid again") from error
        matrix = confusion_matrix(true, predicted, len(classes))
        draw = _confusion_table if len(classes) <= _CLASSES_IN_TABLE else _confusion_picture
        caption = f"{_model_name(grid, cell.model)}<br><span>{_ratio_name(grid, cell.ratio)}</span>"
        blocks.append(f"<figure><figcaption>{caption}</figcaption>{draw(matrix, classes)}</figure>")
    return f'<div class="confusions">{"".join(blocks)}</div>' if blocks else '<p class="empty">No run is finished.</p>'


def _confusion_table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = "<tr><th></th>" + "".join(f"<th><span>{_text(label)}</span></th>" for label in classes) + "</tr>"
    rows = []
    for row, label in enumerate(classes):
        tinted = "".join(
            f"<td{_tint(shares[row, column], right=row == column)}>{matrix[row, column] or '·'}</td>"
            for column in range(len(classes))
        )
        rows.append(f"<tr><th scope='row'>{_text(label)}</th>{tinted}</tr>")
    wide = " long" if max(map(len, classes)) > 3 else ""
    return _table(head, rows, kind=f"confusion{wide}")


def _tint(share: float, *, right: bool) -> str:
    if not share:
        return ' class="zero"'
    colour = "36,87,166" if right else "194,87,26"
    ink = ";color:#fff" if share > 0.55 else ""
    return f' style="background:rgba({colour},{0.08 + 0.87 * share:.2f}){ink}"'


def _confusion_picture(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """A picture of all cells, and the pairs that are confused most, for grids of many classes."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pixels = np.stack([255 - shares * (255 - channel) for channel in (36, 87, 166)], axis=-1).astype(np.uint8)
    scale = max(1, 360 // len(classes))
    image = Image.fromarray(pixels).resize((len(classes) * scale,) * 2, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    wrong = matrix * (1 - np.eye(len(classes), dtype=np.int64))
    top = np.argsort(wrong, axis=None)[::-1][:_TOP_CONFUSIONS]
    pairs = [divmod(int(place), len(classes)) for place in top if wrong.flat[place]]
    items = "".join(f"<li>{_text(classes[a])} taken for {_text(classes[b])}: {wrong[a, b]}</li>" for a, b in pairs)
    return _picture(buffer.getvalue(), "png", "confusion matrix") + f"<ol>{items}</ol>"


def _provenance(grid: Grid) -> str:
    info = grid.info
    config = {name: value for name, value in info["config"].items() if value is not None}
    models = [
        {"model": model_title(grid, model), "input": f"{entry['image_size_px']} px"}
        | ({"weights": f"{entry['weights']} ({entry['weights_fingerprint']})"} if entry["frozen"] else {})
        | {name: value for name, value in entry["training"].items() if value is not None}
        for model, entry in info["models"].items()
    ]
    facts = "".join(f"<li>{text}</li>" for text in _method_notes(grid))
    tables = [
        ("Options", _pairs(config)),
        *((str(entry.pop("model")), _pairs(entry)) for entry in models),
        ("Data fingerprints", _pairs(info["fingerprints"])),
        ("Versions", _pairs({**info["versions"], "device": info["device"]})),
    ]
    blocks = "".join(f"<div><h3>{_text(title)}</h3>{table}</div>" for title, table in tables)
    return f'<ul class="method">{facts}</ul><div class="pairs">{blocks}</div>'


def _method_notes(grid: Grid) -> Iterable[str]:
    models = grid.info["models"].values()
    share = grid.info["config"]["validation_share"]
    if all(entry["training"]["updates"] for entry in models):
        yield (
            "Every cell of a model gets the <b>same number of optimiser updates</b>, so that more images do not also mean "
            "more training; epochs differ and are in results.csv."
        )
    else:
        yield "Every cell trains for the <b>same number of epochs</b>: cells with more images get more optimiser updates."
    yield (
        f"Validation is {share:.0%} of the <b>real training images</b> of each class (at least one), the same for every "
        "ratio at a seed. It chooses the checkpoint (fewest mistakes, then lowest loss). Test images are looked at once, at the end of a run."
    )
    yield "A seed decides initialisation, validation split, batch order and synthetic draw; a larger ratio's draw contains a smaller one's."
    yield "Hyper-parameters are the same in all cells. Images are cropped to their centred square and resized."
    if any(entry["frozen"] for entry in models):
        yield (
            "A frozen backbone's features are computed once an image (no augmentation) and standardised with the mean "
            "and deviation of the cell's real training images; a linear head is trained on them."
        )


def _pairs(values: dict[str, object]) -> str:
    rows = [
        f"<tr><th scope='row'>{_text(name)}</th><td>{_text(_shown(value))}</td></tr>" for name, value in values.items()
    ]
    return f'<table class="pair">{"".join(rows)}</table>'


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value)


def _table(head: str, rows: Iterable[str], *, kind: str) -> str:
    return (
        f'<div class="scroll"><table class="{kind}"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _picture(data: bytes, kind: str, label: str) -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{_text(label)}">'


def _text(value: str) -> str:
    return html.escape(value, quote=True)
