"""Arms: what a cell of a grid trains on, as a short text that names it everywhere.

    real           all real training images: the baseline that every other arm is compared with
    add:1          plus one synthetic image for each real one
    swap:0.5       half of the real images replaced by synthetic ones; swap:1 is synthetic only,
                   with as many images as the baseline
    fewer:0.5      half of the real images and nothing else
    only:1         synthetic ones only, one for each real one: those that add:1 adds
    augment        the real images with standard augmentation; augment:KIND with another kind
    balance        synthetic images fill every class up to the size of the largest
    fill:50        synthetic images fill every class up to 50 images; larger ones stay as they are
    add:1+augment  any arm with another augmentation than the grid's; +augment:KIND likewise
    copies:1       plus a rotated or mirrored copy of each real one (Paulsen et al., Figure 7)
    more:1         plus an additional real image for each real one, from --more-real
    add:1+norms:aux         an arm of real and synthetic images whose synthetic ones have batch
                            normalisation of their own; the grid makes it (--norms)
    add:1+norms:stratified  the same batches and loss without that: its control
    add:1+then:real         the second half of the updates on the real images alone (--then-real)

Amounts of add, only, copies and more are per real training image of a class, those held out for
validation included; shares of swap and fewer are of the real images trained on. "add:1@syn2" draws
from a synthetic source other than the first, "add:2@syn1+syn2" from both in turn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import ConfigError

BASELINE = "real"
AUGMENT = "augment"
_NO_AMOUNT = (BASELINE, AUGMENT, "balance")
_SHARES = ("swap", "fewer")
_SYNTHETIC = ("add", "swap", "only", "balance", "fill")
_SAME_COUNT = (BASELINE, AUGMENT, "swap")
REGIMES = (BASELINE, "add", "swap", "fewer", "only", "balance", "fill", AUGMENT, "copies", "more")
# Kinds of augmentation: what changes pixels, then what mixes images.
STANDARD = "standard"
AUGMENTATIONS = ("none", STANDARD, "crop", "trivial", "rand")
MIXES = ("mixup", "cutmix")
# How batch normalisation sees real and synthetic images (trainer.training.norms).
SHARED, STRATIFIED, AUX = NORMS = ("shared", "stratified", "aux")
BUDGETS = ("updates", "epochs")
SHARED_BUDGET = "both"
# Labels in training_images.csv for images that are not synthetic.
NOT_SOURCES = (
    "real",
    "copy",
    "more",
)
# "augment:trivial" alone, or behind another arm and a "+".
_CHANGED = re.compile(r"((?P<rest>.+)\+)?augment(:(?P<kind>[^:+@]*))?")
_NORMS, _THEN = "+norms:", "+then:"  # no source can have such a name
SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class Arm:
    """One regime at one amount. `source` is "" for the first synthetic source, or names joined by
    "+". `change` is a kind of augmentation that the arm has instead of the grid's, "" for none;
    the regime "augment" always has one. `norms` is "stratified" or "aux", "" for shared. `then` is
    "real" if the training ends on the real images alone, else ""."""

    regime: str
    amount: float = 0.0
    source: str = ""
    change: str = ""
    norms: str = ""
    then: str = ""

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ConfigError(f"arm '{self.regime}' is unknown; choose from {', '.join(REGIMES)}")
        if self.regime == AUGMENT and not self.change:
            object.__setattr__(self, "change", STANDARD)
        kinds = AUGMENTATIONS + MIXES
        if self.change and self.change not in kinds:
            raise ConfigError(
                f"augmentation '{self.change}' is unknown; choose from {', '.join(kinds)}"
            )
        if self.regime in _NO_AMOUNT:
            if self.amount:
                raise ConfigError(f"arm '{self.regime}' takes no amount; write '{self.regime}'")
        elif not math.isfinite(self.amount) or self.amount <= 0:
            raise ConfigError(
                f"arm '{self.regime}' has amount {self.amount:g}; expected a number above 0"
            )
        if self.regime == "fill" and self.amount != int(self.amount):
            raise ConfigError(
                f"arm '{self.name}' needs a whole number: the images that each class is to have"
            )
        limit = 1.0 if self.regime in _SHARES else math.inf
        if self.amount > limit or (self.regime == "fewer" and self.amount == limit):
            expected = "below 1" if self.regime == "fewer" else "of at most 1"
            raise ConfigError(
                f"arm '{self.name}' needs a share {expected}: the part of the real images that it "
                "means"
            )
        if self.source and not self.is_synthetic:
            raise ConfigError(
                f"arm '{self.name}' uses no synthetic images; leave '@{self.source}' out"
            )
        if self.norms and self.norms not in (STRATIFIED, AUX):
            raise ConfigError(
                f"norms '{self.norms}' is unknown; choose from {', '.join(NORMS)}, as in "
                f"--norms {SHARED},{AUX}"
            )
        if self.then not in ("", BASELINE) or (self.then and self.norms):
            raise ConfigError(
                f"arm '{self.name}' does not end as an arm can: with {_THEN}{BASELINE}, or with "
                f"{_NORMS}{AUX}"
            )
        if self._variant and not self.is_mixed:
            raise ConfigError(
                f"arm '{self.name}' does not train on both real and synthetic images; leave "
                f"'{self._variant}' out"
            )
        if len(set(self.sources)) != len(self.sources) or not all(
            SOURCE_NAME.fullmatch(each) for each in self.sources
        ):
            raise ConfigError(
                f"arm '{self.name}' must name each synthetic source once, as in add:1@syn1+syn2"
            )

    @property
    def name(self) -> str:
        """The text that `parse_arm` reads: "real", "add:0.5", "add:1@syn2", "augment:trivial"."""
        kind = "" if self.change == STANDARD else f":{self.change}"
        if self.regime == AUGMENT:
            return f"{AUGMENT}{kind}{self._variant}"
        amount = "" if self.regime in _NO_AMOUNT and not self.amount else f":{_number(self.amount)}"
        source = f"@{self.source}" if self.source else ""
        changed = f"+{AUGMENT}{kind}" if self.change else ""
        return f"{self.regime}{amount}{source}{changed}{self._variant}"

    @property
    def _variant(self) -> str:
        """The end of the name that says how real and synthetic images are trained on."""
        norms = f"{_NORMS}{self.norms}" if self.norms else ""
        return norms + (f"{_THEN}{self.then}" if self.then else "")

    @property
    def group(self) -> str:
        """The regime, with the augmentation where it is not the grid's and how real and synthetic
        images are told apart if they are: arms of one group differ in amount or source only."""
        if self.regime == AUGMENT or not self.change:
            return f"{self.regime}{self._variant}"
        kind = "" if self.change == STANDARD else f":{self.change}"
        return f"{self.regime}+{AUGMENT}{kind}{self._variant}"

    @property
    def sources(self) -> tuple[str, ...]:
        """The synthetic sources it names; empty if it means the first one."""
        return tuple(self.source.split("+")) if self.source else ()

    @property
    def is_baseline(self) -> bool:
        """Whether it is the arm that the others are compared with."""
        return self.regime == BASELINE and not self.change

    @property
    def is_synthetic(self) -> bool:
        """Whether it trains on synthetic images."""
        return self.regime in _SYNTHETIC

    @property
    def is_mixed(self) -> bool:
        """Whether it trains on both real and synthetic images."""
        whole_swap = self.regime == "swap" and self.amount == 1
        return self.is_synthetic and self.regime != "only" and not whole_swap

    @property
    def budgets(self) -> tuple[str, ...]:
        """("both",) if the arm has exactly as many images as the baseline, so that the budgets
        coincide."""
        return (SHARED_BUDGET,) if self.regime in _SAME_COUNT else BUDGETS


def parse_arm(text: str) -> Arm:
    """The arm that a text like "add:0.5@syn2" or "add:1+augment:trivial" names.

    Raises:
        ConfigError: the regime is unknown, or the amount is missing or out of range.
    """
    whole, _, then = text.strip().partition(_THEN)
    whole, _, norms = whole.partition(_NORMS)
    rest, change = whole, ""
    found = _CHANGED.fullmatch(rest)
    if found:
        rest, change = found["rest"] or AUGMENT, found["kind"] or STANDARD
        rest = AUGMENT if rest == BASELINE else rest
    head, at, source = rest.partition("@")
    regime, colon, amount = head.partition(":")
    if at and not source:
        raise ConfigError(f"arm '{text}' names no source after '@'; write {head}, or {head}@NAME")
    if regime in REGIMES and regime not in _NO_AMOUNT and not amount:
        raise ConfigError(f"arm '{text}' has no amount; write for example {regime}:0.5")
    try:
        return Arm(regime, float(amount) if colon else 0.0, source, change, norms, then)
    except ValueError:
        raise ConfigError(
            f"arm '{text}' has amount '{amount}'; expected a number, as in {regime}:0.5"
        ) from None


def norms_of(name: str) -> str:
    """Which norms other than shared ones an arm's name asks for: "aux", "stratified" or ""."""
    return name.partition(_NORMS)[2]


def plain_arm(name: str) -> str:
    """The name of the same arm that does not tell real and synthetic images apart."""
    return name.partition(_NORMS)[0].partition(_THEN)[0]


def control_of(name: str) -> str:
    """The arm that an arm is compared with because it differs in one thing alone: stratified
    batches for auxiliary batch normalisation, the plain arm for stratified batches and for an end
    on real images; "" for a plain arm."""
    plain = plain_arm(name)
    if norms_of(name) == AUX:
        return f"{plain}{_NORMS}{STRATIFIED}"
    return plain if plain != name else ""


def augmented_real(name: str) -> str:
    """The arm of the real images alone with an arm's own augmentation: "augment:trivial" for
    "add:1+augment:trivial"; "" for an arm with the grid's."""
    change = parse_arm(name).change
    return Arm(AUGMENT, change=change).name if change else ""


def ends_on_real(name: str) -> bool:
    """Whether an arm's name says that the training ends on the real images alone."""
    return name.endswith(f"{_THEN}{BASELINE}")


def arm_of_ratio(ratio: float) -> Arm:
    """The additive arm of the first synthetic source; ratio 0 is the baseline."""
    return Arm("add", ratio) if ratio else Arm(BASELINE)


def resolved_source(arm: Arm, names: Sequence[str]) -> str:
    """Which of the grid's sources an arm draws from: "syn2", "syn1+syn2", "" for an arm without
    synthetic images.

    Raises:
        ConfigError: the grid has no such source.
    """
    if not arm.is_synthetic:
        return ""
    known = (
        f"the synthetic sources are {', '.join(names)}" if names else "there is no synthetic source"
    )
    for name in arm.sources:
        if name not in names:
            raise ConfigError(
                f"arm '{arm.name}' draws from '{name}', but {known}; name it with --synthetic "
                f"{name}=DIR"
            )
    if not names:
        raise ConfigError(
            f"arm '{arm.name}' needs synthetic images; name their folder with --synthetic, or ask "
            "for --ratios 0"
        )
    return arm.source or names[0]


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
