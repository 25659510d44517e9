"""What an embedder is; trainer.quality.embedding.embedders has them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

CNN = "cnn"


@dataclass(frozen=True)
class Embedder:
    """A frozen network and how it is fed.

    `embed` takes uint8 [N,3,S,S] with S = `size_px`, RGB, and gives float32 [N,D] on the CPU.
    `fingerprint` changes with anything that changes the features. `classify_words` gives the cosine
    similarity [N,C] of features and texts, where the embedder knows words. `trained_on` are the
    hashes of the real images that it has learnt from, by which nothing may be judged.
    """

    name: str
    size_px: int
    fingerprint: str
    source: str
    embed: Callable[[torch.Tensor], torch.Tensor]
    classify_words: Callable[[torch.Tensor, Sequence[str]], torch.Tensor] | None = None
    trained_on: frozenset[str] = frozenset()
