"""Curves of a metric over the synthetic ratio, and calibration, as SVG.

matplotlib is imported on first use.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.analysis.statistics.stats import Estimate

COLOURS = ("#2457a6", "#c2571a", "#2f7d4f", "#8a3f8f", "#7a6a1f", "#4a4a4a")
_INK, _GRID = "#1d2733", "#dfe4ea"
_LEAST_SPAN_POINTS = 6.0  # an axis that zooms in further makes noise look like an effect
_SPREAD_OUT = 0.006  # of the axis: bars at the same ratio are drawn side by side
_LONG_TITLE = 30  # letters; two columns of such do not fit
_SETTINGS = {
    "svg.hashsalt": "synthgrid",
    "font.size": 12,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


@dataclass(frozen=True)
class Curve:
    """One line: ratios rising, an estimate (share in 0..1, or nats) for each. `colour` counts
    through COLOURS.

    Curves of the same title stand in the legend once.
    """

    title: str
    ratios: Sequence[float]
    values: Sequence[Estimate]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Reliability:
    """One cell's line in a calibration plot: mean probability and share of right answers, both
    [bins] in 0..1."""

    title: str
    claimed: np.ndarray
    right: np.ndarray


def reliability_svg(lines: Sequence[Reliability], *, label: str) -> bytes:
    """Share of right answers over the claimed probability, in percent. The same input, the same
    bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_SETTINGS):
        figure, axes = pyplot.subplots(figsize=(5.2, 3.9), layout="constrained")
        try:
            axes.plot([0, 100], [0, 100], color=_INK, linestyle=":", linewidth=1)
            for number, line in enumerate(lines):
                axes.plot(
                    100 * line.claimed,
                    100 * line.right,
                    color=COLOURS[(number - 1) % len(COLOURS)] if number else COLOURS[-1],
                    marker="o",
                    markersize=4.5,
                    linewidth=2,
                    label=line.title,
                )
            axes.set_title(label, loc="left", fontweight="bold", fontsize=13)
            axes.set(xlabel="claimed probability, percent", ylabel="right, percent")
            axes.set(xlim=(0, 100), ylim=(0, 100))
            axes.grid(axis="y", color=_GRID)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            figure.legend(loc="outside lower left", frameon=False, fontsize=10.5)
            return _svg(figure)
        finally:
            pyplot.close(figure)


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def curve_svg(curves: Sequence[Curve], *, label: str, unit: str = "percent") -> bytes:
    """One metric over the ratio, bars are 95% intervals. `unit` is "percent" or "nats". The same
    input, the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_SETTINGS):
        figure, axes = pyplot.subplots(figsize=(5.2, 3.9), layout="constrained")
        try:
            widest = max(ratio for curve in curves for ratio in curve.ratios)
            bars = []
            for number, curve in enumerate(curves):
                shift = (number - (len(curves) - 1) / 2) * _SPREAD_OUT * widest
                bars.append(
                    _draw(axes, curve, scale=100.0 if unit == "percent" else 1.0, shift=shift)
                )
            _finish(axes, curves, label=label, unit=unit)
            handles = {
                curve.title: bar for curve, bar in reversed(list(zip(curves, bars, strict=True)))
            }
            titles = list(dict.fromkeys(curve.title for curve in curves))
            columns = 2 if len(titles) > 1 and max(map(len, titles)) < _LONG_TITLE else 1
            figure.legend(
                [handles[title] for title in titles],
                titles,
                loc="outside lower left",
                frameon=False,
                fontsize=10.5,
                ncols=columns,
            )
            return _svg(figure)
        finally:
            pyplot.close(figure)


def _draw(axes: Any, curve: Curve, *, scale: float, shift: float) -> Any:
    values = [scale * each.value for each in curve.values]
    # No share lies outside 0..1, even if the t interval does.
    most = 1.0 if scale > 1 else float("inf")
    low = [scale * max(0.0, each.value if each.low is None else each.low) for each in curve.values]
    high = [
        scale * min(most, each.value if each.high is None else each.high) for each in curve.values
    ]
    bars = [
        [v - end for v, end in zip(values, low, strict=True)],
        [end - v for v, end in zip(values, high, strict=True)],
    ]
    return axes.errorbar(
        [ratio + shift for ratio in curve.ratios],
        values,
        yerr=bars,
        color=COLOURS[curve.colour % len(COLOURS)],
        linestyle="--" if curve.dashed else "-",
        marker="o",
        markerfacecolor="white" if curve.dashed else None,
        markersize=5.5,
        linewidth=2,
        capsize=3,
        elinewidth=1.2,
    )


def _finish(axes: Any, curves: Sequence[Curve], *, label: str, unit: str) -> None:
    axes.set_title(label, loc="left", fontweight="bold", fontsize=13)
    axes.set_xlabel("synthetic images for each real one")
    axes.set_ylabel(unit)
    axes.set_xticks(sorted({ratio for curve in curves for ratio in curve.ratios}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if unit == "percent":
        low, high = axes.get_ylim()
        slack = max(0.0, _LEAST_SPAN_POINTS - (high - low)) / 2
        axes.set_ylim(low - slack, high + slack)
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
