"""Images in the report: the worst mistakes beside similar synthetic images; real and synthetic."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from comfy_nodes.labelset.images.openimage import open_image
from trainer.analysis.results import Results
from trainer.data.images import read_image
from trainer.data.shards import ImageFile
from trainer.errors import DataError, ReportError
from trainer.report.html import crop, picture, section, table, text
from trainer.report.sections.grid import model_name
from trainer.report.wording import arm_title, budget_note
from trainer.runs import MISTAKES_FILE, MISTAKES_SHEET, SAMPLES_FILE, read_json_file

_TILE_PX = 96  # of a thumbnail


def sample_section(results: Results) -> str:
    """The first images of each class, real and synthetic side by side."""
    layout, sheet = results.grid.info["samples"], _open(results.grid.root / SAMPLES_FILE)
    tile, real, made = layout["tile_px"], layout["real"], layout["synthetic"]
    rows = []
    for number, label in enumerate(layout["classes"]):
        top, split, right = number * tile, real * tile, (real + made) * tile
        strips = f"<td>{crop(sheet, (0, top, split, top + tile), f'real images of {label}')}</td>"
        if made:
            box = (split, top, right, top + tile)
            strips += f"<td>{crop(sheet, box, f'synthetic images of {label}')}</td>"
        rows.append(f"<tr><th scope='row'>{text(label)}</th>{strips}</tr>")
    head = "<tr><th>Class</th><th>Real</th>" + "<th>Synthetic</th>" * bool(made) + "</tr>"
    note = f"The first {real} real training images of each class, beside the first synthetic ones."
    return section("Real and synthetic images", table(head, rows, kind="sheet"), note=note)


def mistake_section(results: Results) -> str:
    """The worst mistakes of each model's headline cell; empty if the grid recorded none."""
    path = results.grid.root / MISTAKES_FILE
    if not path.is_file():
        return ""
    stored = read_json_file(path)
    try:
        sheet = _open(results.grid.root / MISTAKES_SHEET)
        blocks = [
            _cell(results, cell, sheet, stored) for cell in stored["cells"] if cell["mistakes"]
        ]
    except (KeyError, TypeError, StopIteration) as error:
        raise ReportError(
            f"{path} is damaged ({error!r}); run the same grid command again"
        ) from error
    return section(
        "The worst mistakes, and the most similar synthetic images", *blocks, note=_note(stored)
    )


def _cell(
    results: Results, cell: dict[str, Any], sheet: Image.Image, layout: dict[str, Any]
) -> str:
    wanted = (cell["model"], cell["arm"], cell["budget"])
    key = next(key for key in results.keys if (key.model, key.arm, key.budget) == wanted)
    rows = "".join(_mistake(cell, each, sheet, layout) for each in cell["mistakes"])
    name = text(arm_title(results.grid, key) + budget_note(key))
    return (
        f'<h3>{model_name(results, key.model)}: {name}</h3><div class="mistakes">{rows}</div>'
        f"{_traced(cell)}"
    )


def _traced(cell: dict[str, Any]) -> str:
    """Which prompts are over-represented behind wrong answers; older grids did not ask."""
    lines = [
        f"<li>{each['field']} “{text(each['value'])}”: behind {each['wrong']} of "
        f"{each['wrong_total']} wrong answers, {each['expected']:.1f} expected (p {each['p']:.3f})"
        "</li>"
        for each in cell.get("traced", [])
    ]
    if not lines:
        return ""
    return (
        "<p>Over-represented among the synthetic images of the predicted class that are most like "
        f'what was got wrong:</p><ul class="alerts">{"".join(lines)}</ul>'
    )


def _mistake(
    cell: dict[str, Any], mistake: dict[str, Any], sheet: Image.Image, layout: dict[str, Any]
) -> str:
    label = f"{mistake['file']}, {mistake['true']}"
    facts = (
        f"<b>{text(mistake['true'])}</b> mistaken for <b>{text(mistake['predicted'])}</b><br>wrong "
        f"in {mistake['wrong']} of {cell['seeds']} seeds, real only in {mistake['baseline_wrong']} "
        f"of {cell['baseline_seeds']}<br>p({text(mistake['predicted'])}) "
        f"{mistake['p_predicted']:.2f}, p({text(mistake['true'])}) "
        f"{mistake['p_true']:.2f}<br><span class='spread'>{text(mistake['file'])}</span>"
    )
    nearest = "".join(_neighbour(each, sheet, layout) for each in mistake["nearest"])
    return (
        '<div class="mistake"><div '
        f'class="test">{_tile(sheet, mistake["tile"], layout, label)}<p>{facts}</p></div><div '
        f'class="near">{nearest}</div></div>'
    )


def _neighbour(near: dict[str, Any], sheet: Image.Image, layout: dict[str, Any]) -> str:
    made = "no prompt recorded"
    if near["prompt"] is not None:
        made = f"“{near['prompt']}”, seed {near['seed']}"
    return (
        f"<div>{_tile(sheet, near['tile'], layout, near['file'])}<p><b>{text(near['label'])}</b> "
        f'<span class="spread">{near["likeness"]:.2f}</span><br>{text(made)}</p></div>'
    )


def _tile(sheet: Image.Image, number: int, layout: dict[str, Any], label: str) -> str:
    size, (row, column) = layout["tile_px"], divmod(number, layout["columns"])
    return crop(sheet, (column * size, row * size, (column + 1) * size, (row + 1) * size), label)


def _note(stored: dict[str, Any]) -> str:
    kinds = sorted({cell["features"] for cell in stored["cells"]})
    return (
        "Test images that most seeds get wrong, lowest probability of the true class first. "
        "Beside each are the most similar synthetic training images, with class, similarity, "
        f"prompt and seed. Similarity is the cosine similarity of the {' or '.join(kinds)}."
    )


def _open(path: Path) -> Image.Image:
    try:
        with open_image(path) as image:
            picture: Image.Image = image.convert("RGB")
            return picture
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{path} cannot be read ({error}); run the same grid command again"
        ) from error


def thumbnail(path: ImageFile, label: str) -> str:
    """A file's centred square as a small picture inside the page."""
    try:
        image = read_image(path, at_least_px=_TILE_PX)
    except DataError:
        return "<p>(missing)</p>"
    buffer = io.BytesIO()
    tile = ImageOps.fit(image, (_TILE_PX, _TILE_PX), method=Image.Resampling.BICUBIC)
    tile.save(buffer, format="JPEG", quality=85)
    return picture(buffer.getvalue(), "jpeg", label)
