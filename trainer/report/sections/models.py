"""The models beside each other: how good each is, and what it costs in use."""

from __future__ import annotations

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.results import Results
from trainer.models.cost import cost_texts
from trainer.report.html import section, table, text
from trainer.report.sections.grid import model_name, score_cell
from trainer.report.wording import arm_title


def model_section(results: Results) -> str:
    """A row for each model: real only, the headlines, and the cost of the trained model."""
    entries = results.grid.info["models"]
    costs = {model: cost_texts(entries[model].get("cost")) for model in results.models}
    columns = next((list(cost) for cost in costs.values() if cost), [])
    if not columns:
        return ""
    rows = [
        f"<tr><td>{model_name(results, model)}</td><td>{_scores(results, model)}</td>"
        + "".join(f"<td>{text(costs[model].get(name, ''))}</td>" for name in columns)
        + "</tr>"
        for model in results.models
    ]
    head = "".join(f"<th>{text(name)}</th>" for name in ("Model", "Macro F1", *columns))
    return section(
        "The models and what they cost in use",
        table(f"<tr>{head}</tr>", rows, kind="grid"),
        note=_note(results),
    )


def _scores(results: Results, model: str) -> str:
    """Macro F1 of real only, then of each headline, one a line."""
    keys = [results.baseline(model), *results.headlines(model)]
    return "<br>".join(_score(results, key) for key in keys if key in results.metrics)


def _score(results: Results, key: CellKey) -> str:
    found = score_cell(HEADLINE_METRIC, results.metrics[key][HEADLINE_METRIC])
    return f'{found} <span class="spread">{text(arm_title(results.grid, key))}</span>'


def _note(results: Results) -> str:
    costs = (entry.get("cost") for entry in results.grid.info["models"].values())
    devices = dict.fromkeys(cost["device"] for cost in costs if cost)
    return (
        "The cost is that of the whole network, a frozen backbone included, and the same whatever "
        "images the model was trained on. Times are the fastest of several passes on "
        f"{', '.join(devices)}, without reading and decoding images."
    )
