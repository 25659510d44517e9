"""How unlike all real images an image is: scores of heads that were trained on real images alone.

msp            1 - the largest probability (Hendrycks & Gimpel 2017); the default: as good as any
               with few images, measured on 9 flower classes of 30 with three others as outliers
energy         -log sum exp of the logits (Liu et al. 2020)
knn            distance to the 5th nearest real image, by cosine (Sun et al. 2022)
mahalanobis    distance to the nearest class mean under one covariance (Lee et al. 2018)
rmd            the same, less the distance to the mean of all (Ren et al. 2021)
vos            energy of a head trained against virtual outliers (Du et al. 2022)

All but msp come from pytorch-ood (extra [quality]). Heads and features are ours: the papers train
whole networks. With a few images a score may point the wrong way, so `measured` tries it on real
classes that the head has never seen.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import nn

from trainer.errors import ConfigError
from trainer.quality.probabilities import FOLDS, fit_head

KINDS = ("msp", "energy", "knn", "mahalanobis", "rmd", "vos")
Score = Callable[[np.ndarray], np.ndarray]
_NEIGHBOURS = 5
# Our choice, for features of a few hundred images: full batches, a tenth of the paper's candidates.
_HIDDEN, _STEPS, _RATE, _CANDIDATES = 64, 100, 1e-2, 1_000
_VOS_FROM, _VOS_WEIGHT = 40, 0.1  # from 40% of the training on, and its weight, as in its code
_TRIALS = 3


@dataclass(frozen=True)
class Measured:
    """AUROC of telling images of unseen real classes from unseen images of the known ones; `sign`
    is -1 where the score points the other way and is turned round."""

    auroc: float
    sign: int


def check_kind(kind: str) -> None:
    """Raises ConfigError for an unknown score, or one whose package is missing."""
    if kind not in KINDS:
        raise ConfigError(f"outlier score '{kind}' is unknown; choose from {', '.join(KINDS)}")
    if kind != "msp" and importlib.util.find_spec("pytorch_ood") is None:
        raise ConfigError(
            f"outlier score '{kind}' needs pytorch-ood: python -m pip install 'synthgrid[quality]'"
        )


def fit_outliers(
    kind: str, values: np.ndarray, labels: np.ndarray, *, strength: float | None, seed: int = 0
) -> Score:
    """A function from values [n,D] to scores [n], higher for stranger images, fitted on real images
    [N,D] with labels [N], any integers."""
    known, dense = np.unique(labels, return_inverse=True)
    if kind in ("msp", "energy"):
        head = fit_head(values, dense, num_classes=len(known), strength=strength, seed=seed)
        if kind == "msp":
            return lambda query: 1 - head.probabilities(query).max(axis=1)
        from pytorch_ood.detector import EnergyBased

        return lambda query: EnergyBased.score(torch.from_numpy(head.logits(query))).numpy()
    if kind == "vos":
        return _vos(values, dense, len(known), seed)
    return _distance(kind, values, dense)


def _distance(kind: str, values: np.ndarray, labels: np.ndarray) -> Score:
    from pytorch_ood import detector

    def tensor(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows).float()

    made = {
        "knn": lambda: detector.KNN(None, k=min(_NEIGHBOURS, len(values))),
        "mahalanobis": lambda: detector.Mahalanobis(None),
        "rmd": lambda: detector.RMD(None),
    }[kind]()
    made.fit_features(tensor(values), torch.from_numpy(labels))
    return lambda query: np.asarray(made.predict_features(tensor(query)), dtype=np.float64)


def _vos(values: np.ndarray, labels: np.ndarray, num_classes: int, seed: int) -> Score:
    """A head of two layers trained with pytorch-ood's VOS loss: cross entropy + 0.1 x the loss of
    telling real features from the least likely draws of class Gaussians."""
    from pytorch_ood.loss import VirtualOutlierSynthesizingRegLoss

    scale = 1.0 / max(float(values.std()), 1e-12)
    x, y = torch.from_numpy(values * scale).float(), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(x.shape[1], _HIDDEN), nn.ReLU())
        last, weights = nn.Linear(_HIDDEN, num_classes), nn.Linear(num_classes, 1)
        nn.init.uniform_(weights.weight)
        loss = VirtualOutlierSynthesizingRegLoss(
            nn.Linear(1, 2),
            weights,
            last,
            alpha=_VOS_WEIGHT,
            sample_number=int(np.bincount(labels).min()),
            sample_from=_CANDIDATES,
        )
        parts = nn.ModuleList([body, last, loss])
        optimiser = torch.optim.AdamW(parts.parameters(), lr=_RATE, weight_decay=0.01)
        for step in range(_STEPS):
            features = body(x)
            logits = last(features)
            total = nn.functional.cross_entropy(logits, y)
            if step >= _VOS_FROM:
                total = loss(logits, features, y)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()

    @torch.inference_mode()
    def score(query: np.ndarray) -> np.ndarray:
        logits = last(body(torch.from_numpy(query * scale).float()))
        share = weights.weight.relu().clamp(min=1e-6).log()
        return -(logits + share).logsumexp(dim=1).double().numpy()

    return score


def held_out_scores(
    kind: str, values: np.ndarray, labels: np.ndarray, *, strength: float | None, seed: int = 0
) -> np.ndarray:
    """The score [n] of each real image by a head that has not seen it."""
    folds = max(2, min(FOLDS, int(np.bincount(labels)[np.unique(labels)].min())))
    found = np.zeros(len(values))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for train, held in splits.split(values, labels):
        score = fit_outliers(kind, values[train], labels[train], strength=strength, seed=seed)
        found[held] = score(values[held])
    return found


def measured(
    kind: str, values: np.ndarray, labels: np.ndarray, *, strength: float | None, seed: int = 0
) -> Measured | None:
    """How well the score works on these real images: in three trials a quarter of the classes, at
    least one, is left out and taken for outliers; None if fewer than two classes would be left."""
    classes = np.unique(labels)
    strange = max(1, len(classes) // 4)
    if len(classes) - strange < 2:
        return None
    random = np.random.RandomState(seed)
    found = []
    for _ in range(_TRIALS):
        out = np.isin(labels, random.permutation(classes)[:strange])
        # Known images are unseen as well: every third of them.
        held = ~out & (random.permutation(len(labels)) % 3 == 0)
        kept = ~out & ~held
        if len(np.unique(labels[kept])) < 2 or not held.any():
            continue
        score = fit_outliers(kind, values[kept], labels[kept], strength=strength, seed=seed)
        found.append(roc_auc_score(out[out | held], score(values[out | held])))
    if not found:
        return None
    auroc = float(np.mean(found))
    return Measured(max(auroc, 1 - auroc), 1 if auroc >= 0.5 else -1)
