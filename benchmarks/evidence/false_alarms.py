"""How often the grid's statistics raise false alarms where there is nothing, and find what there
is: the trainer's own verdicts on simulated grids, beside an oracle and other rules.

    python benchmarks/evidence/false_alarms.py [--quick] [--grids 2000] [--only NAME]
        [--rules] [--planned 2]

A simulated grid has the variation of a real one. Test images differ in difficulty, the same for all
runs. Classes differ, for each model in its own way. Every cell, including real only, has its own
hard images. A seed moves all cells of a model; each run moves on its own, as a whole and class by
class; the rest is a coin toss per image. Mistakes go to similar classes and to those that a run
prefers. All cells of a grid have the same expected scores, so that every verdict is a false alarm.
In worlds with `effect` the last arm of each model, its headline, is that much more accurate.

Printed for each world, as shares of grids: any false alarm among the headlines (at most 0.05 is
allowed) with its exact 95% interval (`low`, `high`; Clopper and Pearson 1934), and among the
exploratory comparisons, slopes and steps, each a family of its own; `same`, a headline said to
change by less than a point (in worlds of +1 point or more that is a false alarm too). As shares of
comparisons: 95% intervals that miss 0 (`missed`); headlines found (`found`), and found by an oracle
that knows the variance of every change (`oracle`); `run_sd` is the standard deviation of a run's
macro F1 over seeds. --rules prints false alarms and finds of other rules for the spread of runs:
`own` (the cell's own seeds), `pooled` (all cells of a model), and `larger`, the larger of the two.
The last line names the worlds whose headlines are above 0.05 by an exact one-sided binomial test,
corrected (Holm) for all worlds: of many worlds the highest rate is above its true one.

Measured on 1,000 fresh grids (--seed 21, standard error up to 0.7%) of each of the 44 worlds
without effect: headlines raise false alarms in 0.2 to 4.9% of grids, exploratory comparisons in 0
to 4.8%, slopes in 0 to 5.6%, steps in 0 to 5.4%; 95% intervals miss 0 in 0.2 to 5.0% of
comparisons. A true change of one point is called smaller in less than 0.1% of grids (10 seeds,
2,700 images).

That is after a change. The rule was chosen among about sixty on 2,000 grids per world (--seed 7),
with cells that scatter very unevenly taken for twice as likely as cells that scatter alike; there
headlines had 0.2 to 5.9%, and `pooled` up to 9.7%. Three worlds were above 5.2%, none of them above
5% after correction for 44; a world of 6% would have been above 5.2% with a probability of 93%.
Fresh grids of the three:

    world, seeds, images         twice as likely                       three times (95% interval)
    very uneven, 3, 2,700        5.3% of 40,000 (5.1 to 5.5%)          4.9% of 14,000 (4.5 to 5.2%)
    very uneven, 5, 300          4.8% of 20,000 (4.5 to 5.1%)
    plain, 10, 2,700                                                   4.9% of 6,000 (4.3 to 5.4%)

So the first, with --seed 11, 12 and 14, was truly above 5%. Very uneven cells are taken for three
times as likely now: chosen on the 6,000 grids of --seed 12 (4.7%), confirmed on the 14,000 of
--seed 14. Four times would give 4.6% there, and with 3 seeds lose twice as much power. The two
other worlds are of --seed 11.

Found, in % of comparisons over 1,000 grids (--seed 7, standard error 1.3%):

    points  seeds  images    found  oracle  ratio   pooled
       1      5     2,700      10      13    0.79      11
       1     10     2,700      23      22    1.09      24
       2      3     2,700      16      32    0.50      23
       2      5     2,700      44      51    0.85      46
       2     10     2,700      79      79    1.00      80
       3      3     2,700      43      69    0.62      53
       3      5     1,000      62      72    0.86      65
       3      5     2,700      81      89    0.91      84
       3      5     2,700      32      47    0.68      36   uneven runs
       5      3       300      32      58    0.54      40
       5      5       300      70      78    0.89      72
       5      5     1,000      98      99    0.99      99

The oracle knows every variance, which no grid does. `pooled` says what is possible for a test that
estimates the variance of a model's runs and is told that all its cells scatter alike: 89% of the
oracle for 2 points with 5 seeds, 71% with 3. The trainer's rule has to find out whether they do,
and finds 96 and 70% of that. Where cells do scatter unevenly `pooled` raises false alarms, and its
finds say nothing.

--planned 2 simulates grids of --seeds auto --detect 2 instead: a pilot of 4 seeds, a plan for at
most 20, and up to three looks. `seeds` is the mean number trained, `planned` that of the plan,
`early` the share of grids that stopped before its end.

Measured, false alarms of the headlines in 1,000 fresh grids per world (--seed 12, standard error
0.7%, 95% intervals of 1.0 to 1.5% either way): plain 4.9% with 300 images and 5.0% with 2,700,
stable 3.0%, noisy 3.7%, uneven 4.4%, very uneven 3.9%, collapsing 4.7%, one comparison, uneven,
3.7%. Exploratory comparisons 1.5 to 4.8%; slopes and steps, which do not allow for the looks, 3.1
to 5.3%. Stable grids plan 12 seeds on average, plain ones with 2,700 images 15, noisy ones all 20.
With 2,700 images and a true change of 2 points (100 grids, --seed 11): found in 88%, 14.3 seeds
trained of 14.8 planned, one in nine stopped early; of 4 points: 100%, 11.7 seeds of 14.9, 56%
stopped early.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.analysis.cellkey import HEADLINE_METRIC, CellKey
from trainer.analysis.comparisons import Verdicts, compare, score
from trainer.analysis.scores import CellScores
from trainer.analysis.statistics.power import plan_looks
from trainer.analysis.statistics.spread import seed_spreads
from trainer.analysis.statistics.stats import contrast, holm
from trainer.config import PILOT_SEEDS

Predicted = dict[CellKey, dict[int, np.ndarray]]
Scored = Mapping[CellKey, Mapping[str, CellScores]]


@dataclass(frozen=True)
class World:
    """A kind of grid. Deviations are in logits: near 60% accuracy, 0.1 is about 1.5 points.

    `uneven` is the standard deviation of ln(scatter of runs) between cells; `imbalance` how many
    times as many test images the largest class has as the smallest; `heavy` makes single runs
    collapse: Student's t with so many degrees of freedom.
    """

    models: int = 2
    arms: int = 4
    seeds: int = 3
    classes: int = 10
    images: int = 300
    run: float = 0.06
    run_by_class: float = 0.15
    shared_by_seed: float = 0.06
    cell_by_image: float = 0.5
    uneven: float = 0.0
    imbalance: float = 1.0
    heavy: float = 0.0
    effect: float = 0.0


STABLE = {"run": 0.01, "run_by_class": 0.02, "cell_by_image": 0.0}
NOISY = {"run": 0.25, "run_by_class": 0.4}
SIZES = ((3, 300), (3, 1000), (3, 2700), (5, 300), (5, 1000), (5, 2700), (10, 300), (10, 2700))
FEWER_SIZES = ((3, 300), (3, 2700), (5, 300), (5, 2700), (10, 300))


def _sized(
    name: str, world: World, sizes: Sequence[tuple[int, int]] = FEWER_SIZES
) -> dict[str, World]:
    return {
        f"{name}: {seeds} seeds, {images} images": replace(world, seeds=seeds, images=images)
        for seeds, images in sizes
    }


WORLDS = {
    **_sized("plain", World(), SIZES),
    **_sized("plain", World(), ((3, 100), (5, 100))),
    **_sized("stable", replace(World(), **STABLE)),
    **_sized("noisy", replace(World(), **NOISY)),
    **_sized("uneven", World(run=0.12, uneven=0.5)),
    **_sized("very uneven", World(run=0.12, uneven=1.0)),
    **_sized("imbalanced", World(imbalance=20.0), ((3, 300), (5, 300), (5, 2700))),
    **_sized("collapsing", World(run=0.12, heavy=3.0), ((3, 1000), (5, 1000))),
    **_sized("images differ much", World(cell_by_image=1.5), ((3, 300),)),
    "20 classes of 5": World(classes=20, images=100),
    "one comparison": World(models=1, arms=1),
    "one comparison, uneven": World(models=1, arms=1, images=2700, run=0.12, uneven=0.5),
    "one comparison, images differ much": World(
        models=1, arms=1, images=1000, run=0.25, cell_by_image=1.5
    ),
    "1 model, 2 arms, uneven": World(models=1, arms=2, images=2700, run=0.12, uneven=0.5),
    "1 model, 8 arms": World(models=1, arms=8),
    "1 model, 8 arms, uneven": World(models=1, arms=8, images=1000, run=0.12, uneven=0.5),
    "4 models, 5 arms": World(models=4, arms=5, seeds=5, images=200),
    **_sized("+1 point", World(effect=0.01), ((5, 2700), (10, 2700))),
    **_sized("+2 points", World(effect=0.02), ((3, 2700), (5, 2700), (10, 2700))),
    **_sized("+3 points", World(effect=0.03), ((3, 2700), (5, 1000), (5, 2700))),
    **_sized("+5 points", World(effect=0.05), ((3, 300), (5, 300), (5, 1000))),
    **_sized("+3 points, uneven", World(run=0.12, uneven=0.5, effect=0.03), ((5, 2700),)),
}
# For grids that plan their seeds, of which these are the most.
MOST_SEEDS = 20
PLANNED_WORLDS = {
    "plain: 300 images": World(images=300),
    "plain: 2700 images": World(images=2700),
    "stable: 1000 images": replace(World(images=1000), **STABLE),
    "noisy: 1000 images": replace(World(images=1000), **NOISY),
    "uneven: 1000 images": World(images=1000, run=0.12, uneven=0.5),
    "very uneven: 1000 images": World(images=1000, run=0.12, uneven=1.0),
    "collapsing: 1000 images": World(images=1000, run=0.12, heavy=3.0),
    "one comparison, uneven: 2700 images": World(
        models=1, arms=1, images=2700, run=0.12, uneven=0.5
    ),
    "+2 points: 2700 images": World(images=2700, effect=0.02),
    "+4 points: 2700 images": World(images=2700, effect=0.04),
    "+2 points, one comparison: 2700 images": World(models=1, arms=1, images=2700, effect=0.02),
}
PLANNED = ("headline", "explore", "slope", "step", "missed", "found", "seeds", "planned", "early")
MEASURED = ("headline", "explore", "slope", "step", "missed", "same", "run_sd", "found", "oracle")
RULES = ("own", "pooled", "larger")
ALLOWED = 0.05  # share of grids with any false alarm in a family


def simulate(world: World, random: np.random.Generator) -> tuple[np.ndarray, Predicted, np.ndarray]:
    """True classes int [N], the predicted ones of every run as `judge` takes them, and how much the
    runs of each model and cell scatter [models, arms + 1]."""
    true = _true_classes(world)
    difficulty = random.normal(0.0, 1.5, len(true))
    predicted: Predicted = {}
    scatters = []
    for model in range(world.models):
        own = random.normal(0, 0.6, world.classes)[true] + random.normal(0, 0.7, len(true))
        base = (0.7 + own + difficulty).astype(np.float32)
        scatter = world.run * np.exp(random.normal(0, world.uneven, world.arms + 1))
        runs = _model_runs(world, base, scatter, true, random)
        for arm in range(world.arms + 1):
            predicted[_key(model, arm)] = dict(enumerate(runs[arm]))
        scatters.append(scatter)
    return true, predicted, np.array(scatters)


def _true_classes(world: World) -> np.ndarray:
    """Class indices [N], at least two of each class."""
    sizes = np.geomspace(world.imbalance, 1, world.classes)
    counts = np.maximum(2, np.round(sizes / sizes.sum() * world.images)).astype(int)
    return np.repeat(np.arange(world.classes), counts)


def _key(model: int, arm: int) -> CellKey:
    if arm == 0:
        return CellKey(f"model{model}", "real", "both")
    return CellKey(f"model{model}", f"add:{arm}", "updates", "add", float(arm))


def _model_runs(
    world: World,
    base: np.ndarray,
    scatter: np.ndarray,
    true: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Predicted classes [cells, seeds, N] of one model."""
    cells, seeds, n = len(scatter), world.seeds, len(true)
    luck = random.standard_normal((cells, seeds))
    if world.heavy:
        luck = (
            random.standard_t(world.heavy, (cells, seeds))
            / (world.heavy / (world.heavy - 2)) ** 0.5
        )
    moved = random.normal(0, world.shared_by_seed, seeds) + luck * scatter[:, None]
    by_class = moved[..., None] + random.normal(
        0, world.run_by_class, (cells, seeds, world.classes)
    )
    hard = random.standard_normal((cells, 1, n), dtype=np.float32) * np.float32(world.cell_by_image)
    logits = base + hard + by_class[..., true].astype(np.float32)
    if world.effect:
        share = 1 / (1 + np.exp(-logits[-1]))
        logits[-1] += world.effect / np.mean(share * (1 - share), axis=-1, keepdims=True)
    right = random.random((cells, seeds, n), dtype=np.float32) * (1 + np.exp(-logits)) < 1
    return np.where(right, true, _mistaken(world, true, random, (cells, seeds)))


def _mistaken(
    world: World, true: np.ndarray, random: np.random.Generator, runs: tuple[int, int]
) -> np.ndarray:
    """For every run and image a wrong class: similar ones, and those that the run prefers, more
    often."""
    alike = random.gumbel(size=(world.classes, world.classes))
    pull = np.exp(alike + random.normal(0, 0.3, (*runs, 1, world.classes)))
    pull[..., np.arange(world.classes), np.arange(world.classes)] = 0
    up_to = np.cumsum(pull, axis=-1)
    up_to = (up_to / up_to[..., -1:])[..., :-1].astype(np.float32)
    drawn = random.random((*runs, len(true)), dtype=np.float32)
    guesses: np.ndarray = np.zeros((*runs, len(true)), dtype=np.int64)
    for edge in np.moveaxis(up_to, -1, 0):  # [runs, classes]
        guesses += drawn > edge[..., true]
    return guesses


def measure(world: World, *, grids: int, seed: int = 0, rules: bool = False) -> dict[str, float]:
    """Shares over simulated grids: see the module's docstring."""
    random, total = np.random.default_rng(seed), Counter[str]()
    changes, scatters, p_rules = [], [], defaultdict(list)
    for _ in range(grids):
        true, predicted, scatter = simulate(world, random)
        scores = {
            key: score(true, runs, world.classes, metrics=(HEADLINE_METRIC,))
            for key, runs in predicted.items()
        }
        verdicts = compare(scores, planned=tuple(scores))
        total.update(_tally(world, verdicts))
        changes.append([_headline(world, verdicts, model) for model in range(world.models)])
        scatters.append(scatter[:, 0] ** 2 + scatter[:, -1] ** 2)
        if rules:
            for rule, p in _other_rules(world, scores):
                p_rules[rule].append(p)
    found = {name: total[name] / grids for name in MEASURED}
    found["oracle"] = _found(_oracle_p(np.array(changes), np.array(scatters)))
    return found | {
        rule: _found(np.array(p), alarm=not world.effect) for rule, p in p_rules.items()
    }


def _headline(world: World, verdicts: Verdicts, model: int) -> float:
    return verdicts.comparisons[_key(model, world.arms)].changes[HEADLINE_METRIC].value


def _tally(world: World, verdicts: Verdicts) -> dict[str, float]:
    headlines = [each for each in verdicts.comparisons.values() if each.is_headline]
    others = [each for each in verdicts.comparisons.values() if not each.is_headline]
    null = others if world.effect else [*headlines, *others]
    alarms = [each.verdict in ("better", "worse") for each in headlines]
    deviations = [sd for (_, metric), sd in verdicts.run_sd.items() if metric == HEADLINE_METRIC]
    return {
        "headline": float(any(alarms) and not world.effect),
        "explore": float(any(each.verdict in ("better", "worse") for each in others)),
        "slope": float(any(_significant(each.p_slope) for each in verdicts.trends)),
        "step": float(any(_significant(p) for each in verdicts.trends for p in each.p_steps)),
        "missed": _mean(each.changes[HEADLINE_METRIC].excludes_zero for each in null),
        "same": float(any(each.is_small for each in headlines)),
        "found": _mean(each.verdict == "better" for each in headlines),
        "run_sd": _mean(deviations),
    }


def _mean(values: Iterator[bool] | Sequence[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else 0.0


def _significant(p: float | None) -> bool:
    return p is not None and p <= 0.05


# --- the oracle, and other rules ---


def _oracle_p(changes: np.ndarray, scatters: np.ndarray) -> np.ndarray:
    """p-values of headline changes [grids, models] with their true variances.

    A change's variance is a + b * (the squared scatter of its two cells); a and b are the same in
    all grids of a world and are fitted to them (weighted least squares, both at least 0).
    """
    from scipy.optimize import nnls

    squares = ((changes - changes.mean()) ** 2).ravel()
    terms = np.stack([np.ones(squares.size), scatters.ravel()], axis=1)
    variance = np.full(squares.size, squares.mean())
    if np.ptp(scatters) > 1e-12:
        for _ in range(10):
            variance = terms @ nnls(terms / variance[:, None], squares / variance)[0]
    p: np.ndarray = 2 * norm.sf(np.abs(changes) / variance.reshape(changes.shape) ** 0.5)
    return p


def _found(p_values: np.ndarray, *, alarm: bool = False) -> float:
    """Share of p-values [grids, models] that are significant after Holm's correction; with `alarm`
    the share of grids with any."""
    found = [[p <= 0.05 for p in holm(dict(enumerate(row))).values()] for row in p_values.tolist()]
    return float(np.mean([any(row) for row in found] if alarm else found))


def _other_rules(world: World, scores: Scored) -> Iterator[tuple[str, list[float]]]:
    """For each of RULES the p-values of the headlines."""
    found: dict[str, list[float]] = {rule: [] for rule in RULES}
    for model in range(world.models):
        cells = [scores[_key(model, arm)][HEADLINE_METRIC] for arm in range(world.arms + 1)]
        terms = [(1.0, cells[-1]), (-1.0, cells[0])]
        spread = seed_spreads({model: cells})[model]
        assert spread is not None
        own = contrast(terms)
        pooled = contrast(terms, spread=replace(spread, unevenness=0.0))
        assert own is not None
        assert pooled is not None
        larger = max(own.se or 0.0, pooled.se or 0.0)
        found["own"].append(own.p or 0.0)
        found["pooled"].append(pooled.p or 0.0)
        found["larger"].append(float(2 * student_t.sf(abs(own.value) / larger, pooled.df)))
    yield from found.items()


# --- grids that plan their seeds ---


def measure_planned(
    world: World, *, grids: int, detect: float, most_seeds: int, seed: int = 0
) -> dict[str, float]:
    """The same for grids of --seeds auto: a pilot, a plan to find a change of `detect`, looks.

    Besides, the mean number of seeds trained (`seeds`) and planned, and the share of grids that
    stopped before the last look (`early`).
    """
    random, total = np.random.default_rng(seed), Counter[str]()
    for _ in range(grids):
        true, predicted, _ = simulate(replace(world, seeds=most_seeds), random)
        scores = {
            key: score(true, runs, world.classes, metrics=(HEADLINE_METRIC,))
            for key, runs in predicted.items()
        }
        looks = _planned_looks(world, scores, detect, most_seeds)
        for look in looks[1:]:
            verdicts = compare(_first(scores, look), planned=tuple(scores), looks=looks)
            headlines = [each for each in verdicts.comparisons.values() if each.is_headline]
            if all(each.verdict in ("better", "worse") for each in headlines):
                break
        total.update(_tally(world, verdicts))
        total.update(seeds=look, planned=looks[-1], early=look < looks[-1])
    return {name: total[name] / grids for name in PLANNED}


def _planned_looks(world: World, scores: Scored, detect: float, most_seeds: int) -> tuple[int, ...]:
    pilot = compare(_first(scores, PILOT_SEEDS), planned=tuple(scores))
    headlines = [
        pilot.comparisons[_key(model, world.arms)].changes[HEADLINE_METRIC]
        for model in range(world.models)
    ]
    plan = plan_looks(headlines, detect, tests=world.models, most_seeds=most_seeds)
    assert plan is not None
    return plan.looks


def _first(scores: Scored, seeds: int) -> Scored:
    return {
        key: {metric: cell.between(0, seeds) for metric, cell in metrics.items()}
        for key, metrics in scores.items()
    }


# --- is a world above what is allowed ---


def surplus_p(alarms: Mapping[str, int], grids: int) -> dict[str, float]:
    """p-values for "at most ALLOWED of such grids raise a false alarm", from the alarms in `grids`
    grids of each world: exact one-sided binomial tests, corrected (Holm) for all worlds."""
    return holm(
        {
            name: float(binomtest(count, grids, ALLOWED, alternative="greater").pvalue)
            for name, count in alarms.items()
        }
    )


def _conclusion(alarms: Mapping[str, int], grids: int) -> str:
    corrected = surplus_p(alarms, grids)
    above = [f"{name} (p = {p:.3f})" for name, p in corrected.items() if p <= 0.05]
    return (
        f"Headlines, above {ALLOWED:.0%} of grids after correction for {len(alarms)} worlds: "
        f"{', '.join(above) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How often the statistics raise false alarms, and find real effects."
    )
    parser.add_argument("--grids", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="100 grids per world")
    parser.add_argument("--seed", type=int, default=0, help="other grids")
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    parser.add_argument(
        "--planned",
        type=float,
        metavar="POINTS",
        help="grids of --seeds auto --detect POINTS instead, of at most 20 seeds",
    )
    parser.add_argument("--rules", action="store_true", help="other rules for the spread as well")
    options = parser.parse_args()
    grids = 100 if options.quick else options.grids
    columns = [*MEASURED, *(RULES if options.rules else ())]
    columns = list(PLANNED) if options.planned else columns
    columns[1:1] = ["low", "high"]
    print(f"{f'{grids} grids per world':42s}" + "".join(f"{name:>9s}" for name in columns))
    alarms: dict[str, int] = {}
    for name, world in (PLANNED_WORLDS if options.planned else WORLDS).items():
        if options.only not in name:
            continue
        started_s = time.perf_counter()
        if options.planned:
            got = measure_planned(
                world,
                grids=grids,
                detect=options.planned / 100,
                most_seeds=MOST_SEEDS,
                seed=options.seed,
            )
        else:
            got = measure(world, grids=grids, seed=options.seed, rules=options.rules)
        if world.effect:  # there slopes and steps are not false alarms, and no headline is null
            got |= dict.fromkeys(("slope", "step", "headline", "low", "high"), float("nan"))
        else:
            alarms[name] = round(got["headline"] * grids)
            exact = binomtest(alarms[name], grids).proportion_ci(0.95)
            got |= {"low": float(exact.low), "high": float(exact.high)}
        shown = "".join(f"{got[column]:9.3f}" for column in columns)
        print(f"{name:42s}{shown}  {time.perf_counter() - started_s:.0f} s", flush=True)
    if alarms:
        print(_conclusion(alarms, grids))


if __name__ == "__main__":
    main()
