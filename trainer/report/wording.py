"""Numbers, cells and verdicts in words: the report's names and short phrases. No HTML."""

from __future__ import annotations

from trainer.analysis.cellkey import CellKey
from trainer.analysis.comparisons import Comparison, Duel
from trainer.analysis.results import Results
from trainer.analysis.statistics.stats import Estimate
from trainer.arms import AUX, MIXES, SHARED_BUDGET, ends_on_real, norms_of, parse_arm
from trainer.runs import Grid

BUDGET_TITLES = {
    "updates": "Same number of optimiser updates",
    "epochs": "Same number of epochs",
    SHARED_BUDGET: "As many images as real only: the two budgets coincide",
}
BUDGET_SHORT = {"updates": "same updates", "epochs": "same epochs", SHARED_BUDGET: ""}
SUGGESTIVE = "suggestive, not confirmed"
_VERDICTS = {
    "better": "helps",
    "worse": "hurts",
    "unclear": "cannot tell",
    "untested": "one seed, no test",
}
_MINUS = "−"


def points(value: float) -> str:
    """A share as signed percentage points: 0.081 is "+8.1"."""
    return f"{round(value * 100, 1) + 0.0:+.1f}".replace("-", _MINUS)


def percent(value: float) -> str:
    """A share in percent: 0.613 is "61.3"."""
    return f"{value * 100:.1f}".replace("-", _MINUS)


def metric_value(name: str, value: float) -> str:
    """A metric as the tables show it: percent, or nats."""
    return f"{value:.3f}" if name == "nll" else percent(value)


def margin(name: str, estimate: Estimate) -> str:
    """Half the width of a cell's interval, as "±2.4", or "0.0 to 100.0" where it ends at what the
    metric can be; "" with one seed."""
    if estimate.low is None or estimate.high is None:
        return ""
    if name != "nll" and (estimate.low <= 0.0 or estimate.high >= 1.0):
        return f"{percent(max(0.0, estimate.low))} to {percent(min(1.0, estimate.high))}"
    if estimate.low < 0.0:
        return f"0.000 to {estimate.high:.3f}"
    half = (estimate.high - estimate.low) / 2
    return f"±{half:.3f}" if name == "nll" else f"±{half * 100:.1f}"


def interval(change: Estimate) -> str:
    """A change's 95% interval in points."""
    if change.low is None or change.high is None:
        return "one seed, no interval"
    return f"95% CI {points(change.low)} to {points(change.high)}"


def p_value(p: float | None) -> str:
    """ "p = 0.031", "p < 0.001"."""
    if p is None:
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def model_title(grid: Grid, model: str) -> str:
    """A model's display name; an untrained backbone is always marked as such."""
    entry = grid.info["models"][model]
    return (
        f"{entry['title']} - untrained backbone"
        if entry["weights"] == "untrained"
        else str(entry["title"])
    )


def model_noun(grid: Grid, model: str) -> str:
    """A model's name in a sentence."""
    entry = grid.info["models"][model]
    return (
        f"{entry['noun']} (untrained backbone)"
        if entry["weights"] == "untrained"
        else str(entry["noun"])
    )


def per_class(grid: Grid, part: str) -> str:
    """Images per class of a part (train, test, synthetic, more): "5", or "4 to 6" if classes
    differ."""
    return _range(grid.info["images_per_class"][part])


def added_per_class(grid: Grid, amount: float) -> str:
    """Images per class that `amount` images for each real training image come to."""
    return _range([int(amount * count + 0.5) for count in grid.info["images_per_class"]["train"]])


OWN_TEST = "own"  # what a table calls the grid's own test set beside further ones


def on_test(results: Results) -> str:
    """ " on the test set “sketch”" for a further test set, else nothing."""
    return f" on the test set “{results.test}”" if results.test else ""


def scope(grid: Grid) -> str:
    """For which training images an interval holds: "with these training images"."""
    if grid.info["config"].get("test_share") is not None:
        return "over random splits of the images"
    if drawn_share(grid) is None:
        return "with these training images"
    return "over draws of training images"


def drawn_share(grid: Grid) -> float | None:
    """The largest share of a class's real images that a seed draws; None if they are not drawn."""
    if grid.info["config"].get("redraw") is None:
        return None
    counts = grid.info["images_per_class"]
    return max(
        float(drawn / (drawn + rest))
        for drawn, rest in zip(counts["train"], counts["more"], strict=True)
    )


def pool_size(grid: Grid) -> str:
    """Real images per class that a seed draws from: "250", or "240 to 250"."""
    counts = grid.info["images_per_class"]
    return _range([a + b for a, b in zip(counts["train"], counts["more"], strict=True)])


def _range(counts: list[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def arm_title(grid: Grid, key: CellKey) -> str:
    """What a cell trains on, for a table: "real + 30 synthetic"."""
    added = added_per_class(grid, key.ratio)
    share = f"{key.ratio * 100:g}%"
    named = f" ({key.source})" if key.source and len(grid.info.get("sources", {})) > 1 else ""
    change = parse_arm(key.arm).change
    changed = f", {_augmentation(change)}" if change else ""
    changed += ", then real alone" * ends_on_real(key.arm)
    norms = norms_of(key.arm)
    changed += f", {'auxiliary batch norm' if norms == AUX else 'stratified batches'}" * bool(norms)
    return {
        "real": "real only",
        "add": f"real + {added} synthetic{named}",
        "swap": f"{share} of real replaced by synthetic{named}",
        "fewer": f"{share} of real",
        "only": f"{added} synthetic only{named}",
        "balance": f"classes filled up with synthetic{named}",
        "fill": f"classes filled up to {key.ratio:g} with synthetic{named}",
        "augment": "real",
        "copies": f"real + {added} rotated or mirrored copies",
        "more": f"real + {added} additional real",
    }[key.regime.partition("+")[0]] + changed


def _augmentation(kind: str) -> str:
    """What a cell's own kind of augmentation is called: "trivial augmentation", "mixup"."""
    if kind in MIXES:
        return kind
    return "no augmentation" if kind == "none" else f"{kind} augmentation"


def budget_note(key: CellKey) -> str:
    """ ", same updates"; "" if the budgets coincide."""
    short = BUDGET_SHORT[key.budget]
    return f", {short}" if short else ""


def verdict(comparison: Comparison | Duel) -> str:
    """ "helps", "hurts", "no change larger than 1 point", "cannot tell", ..."""
    if isinstance(comparison, Duel):
        words = {"better": "better", "worse": "worse"}.get(comparison.verdict)
        hint = f" ({SUGGESTIVE})" * (comparison.change.excludes_zero and words is None)
        return words or f"{_VERDICTS[comparison.verdict]}{hint}"
    size = point_count(comparison.meaningful)
    if comparison.verdict == "same":
        return f"no change larger than {size}"
    words = _VERDICTS[comparison.verdict]
    if comparison.is_suggestive:
        return f"{words} ({SUGGESTIVE})"
    return f"{words}, by less than {size}" if comparison.is_small else words


def counted(number: int, noun: str) -> str:
    """ "1 headline comparison", "3 headline comparisons"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def point_count(share: float) -> str:
    """A share as a number of points: "1 point", "2.5 points"."""
    value = f"{share * 100:g}"
    return f"{value} point{'' if value == '1' else 's'}"
