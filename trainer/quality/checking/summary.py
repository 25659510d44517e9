"""What a check's JSON file says: how it was asked, what it found, and the worst images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from comfy_nodes.labelset.quality.verdicts import Verdict
from trainer.data.samples import fingerprint
from trainer.quality.checking.judging import CheckConfig, Judged
from trainer.quality.checking.labels import QUANTILE
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.images import MadeImages, RealImages
from trainer.training.run import versions

FORMAT = 1  # raise it when the same images would get other scores
_WORST, _NEAREST = 20, 3


def summary_of(
    real: RealImages,
    made: MadeImages,
    embedder: Embedder,
    common_px: int,
    config: CheckConfig,
    judged: Judged,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    quality = judged.outlier_quality
    return {
        "format": FORMAT,
        "config": asdict(config),
        "embedder": {
            "name": embedder.name,
            "weights": embedder.source,
            "fingerprint": embedder.fingerprint,
            "images_px": common_px,
        },
        "versions": versions(),
        "inputs": {
            "real": fingerprint(real.train),
            "test": fingerprint(real.test),
            "synthetic": fingerprint(made.samples),
        },
        "classes": list(real.classes),
        "real_images": len(real.train),
        "thresholds": _thresholds(judged),
        "outlier": {
            "kind": config.outlier,
            "auroc": quality.auroc if quality else None,
            "sign": quality.sign if quality else 1,
        },
        "real_or_synthetic": {
            "auc": judged.realness.auc,
            "low": judged.realness.low,
            "high": judged.realness.high,
            "prompts_held_out": judged.realness.grouped,
        },
        "images": len(verdicts),
        "rejected": sum(each.rejected for each in verdicts),
        "not_judged": dict(Counter(each.label for each in made.others)),
        "by_reason": dict(Counter(_reason(each) for each in verdicts if each.rejected)),
        "by_class": _counts([each.label for each in made.samples], verdicts),
        "by_prompt": _counts([each.prompt for each in made.origins], verdicts),
        "groups": [asdict(each) for each in judged.groups],
        "worst": _worst(judged, verdicts),
    }


def _thresholds(judged: Judged) -> dict[str, dict[str, float]]:
    """Each score's threshold, the share of real images and of synthetic ones that it rejects."""
    told = judged.told_threshold
    return {
        "label": {
            "threshold": judged.labels.threshold,
            "real": judged.labels.cost,
            "synthetic": float(judged.labels.rejected.mean()),
        },
        "outlier": {
            "threshold": judged.outlier_threshold,
            "real": QUANTILE,
            "synthetic": float((judged.outlier > judged.outlier_threshold).mean()),
        },
        "real": {
            "threshold": told,
            "real": float((judged.realness.real < told).mean()),
            "synthetic": float((judged.realness.made < told).mean()),
        },
    }


def _reason(verdict: Verdict) -> str:
    return verdict.reason.partition(":")[0]


def _counts(names: Sequence[str], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    images, rejected = Counter(names), Counter[str]()
    rejected.update(name for name, verdict in zip(names, verdicts, strict=True) if verdict.rejected)
    return [
        {"name": name, "images": count, "rejected": rejected[name]}
        for name, count in sorted(images.items())
        if name
    ]


def _worst(judged: Judged, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The images that look least like their label, each with the real images of its class that are
    nearest to it."""
    by_hash = {each.sha256: each for each in verdicts}
    units = [
        part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
        for part in (judged.train.features, judged.seen.features)
    ]
    labels = np.array([each.label for each in judged.real.train])
    # Rejected ones first; among these, and among the others, the least likely label.
    rejected = np.array([by_hash[each.sha256].rejected for each in judged.samples])
    order = np.lexsort([judged.labels.own, ~rejected])[:_WORST]
    found = []
    for row in order.tolist():
        sample = judged.samples[row]
        same = np.flatnonzero(labels == sample.label)
        near = same[np.argsort(-(units[0][same] @ units[1][row]))[:_NEAREST]]
        likely = judged.real.classes[int(judged.labels.made[row].argmax())]
        found.append(
            {
                "file": sample.file,
                "label": sample.label,
                "looks_like": likely,
                "own": float(judged.labels.own[row]),
                "reason": by_hash[sample.sha256].reason,
                "nearest": [str(judged.real.train[each].path) for each in near],
            }
        )
    return found
