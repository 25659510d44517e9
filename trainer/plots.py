"""Curves of a metric over the synthetic ratio, as SVG. matplotlib is imported when a curve is drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.stats import Summary

COLOURS = ("#2457a6", "#c2571a", "#2f7d4f", "#8a3f8f", "#7a6a1f", "#4a4a4a")
_INK, _GRID = "#1d2733", "#dfe4ea"
_LEAST_SPAN_POINTS = 6.0  # an axis that zooms in further makes noise look like an effect


@dataclass(frozen=True)
class Curve:
    """One model's line: ratios rising, a summary (share in 0..1) for each."""

    title: str
    ratios: Sequence[float]
    values: Sequence[Summary]


def curve_svg(curves: Sequence[Curve], *, label: str) -> bytes:
    """One metric of all models over the ratio; bars are one standard deviation over seeds. The same input, the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = {
        "svg.hashsalt": "synthgrid",
        "font.size": 11,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(5.2, 3.5), layout="constrained")
        try:
            for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
                means = [100 * value.mean for value in curve.values]
                spreads = [100 * (value.sd or 0.0) for value in curve.values]
                axes.fill_between(
                    curve.ratios,
                    [mean - spread for mean, spread in zip(means, spreads, strict=True)],
                    [mean + spread for mean, spread in zip(means, spreads, strict=True)],
                    color=colour,
                    alpha=0.13,
                    linewidth=0,
                )
                axes.errorbar(
                    curve.ratios, means, yerr=spreads, label=curve.title, color=colour, marker="o", markersize=5.5,
                    linewidth=2, capsize=3, elinewidth=1.2,
                )  # fmt: skip
            axes.set_title(label, loc="left", fontweight="bold", fontsize=12)
            axes.set_xlabel("synthetic images for each real one")
            axes.set_ylabel("percent")
            axes.set_xticks(sorted({ratio for curve in curves for ratio in curve.ratios}))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            low, high = axes.get_ylim()
            slack = max(0.0, _LEAST_SPAN_POINTS - (high - low)) / 2
            axes.set_ylim(low - slack, high + slack)
            axes.grid(axis="y", color=_GRID)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=9.5, loc="best")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)
    return buffer.getvalue()
