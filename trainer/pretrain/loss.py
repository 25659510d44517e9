"""The multi-positive contrastive loss of StableRep (Tian et al. 2023, section 3.2).

SupCon (Khosla et al. 2020, L_out) is the same loss with classes as ids; NT-Xent (SimCLR, Chen et
al. 2020) the same with two views per id. StableRep+ adds the same between images and texts.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def positive_mask(ids: torch.Tensor) -> torch.Tensor:
    """Which pairs of [N] rows are positives: same id, not the row itself. bool [N,N]."""
    same = ids[:, None] == ids[None, :]
    return same.fill_diagonal_(False)


def multi_positive_loss(
    features: torch.Tensor, ids: torch.Tensor, *, temperature: float = 0.1
) -> torch.Tensor:
    """Cross entropy between each row's softmax over cosine similarities and its positives.

    The positives of this batch are found in `ids` int64 [N], so that a caption drawn twice is never
    its own negative. `features` [N,D] need not have length 1. A row without a positive is left out
    of the mean (our choice); the loss is 0 if there is none at all.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
    unit = functional.normalize(features.float(), dim=1)
    itself = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    scores = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    log_shares = scores.log_softmax(dim=1).masked_fill(itself, 0.0)
    positives = positive_mask(ids).to(log_shares.dtype)
    counts = positives.sum(dim=1)
    per_row = -(positives * log_shares).sum(dim=1) / counts.clamp(min=1.0)
    return per_row.sum() / (counts > 0).sum().clamp(min=1)


def image_text_loss(
    images: torch.Tensor,
    image_ids: torch.Tensor,
    texts: torch.Tensor,
    text_ids: torch.Tensor,
    *,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Half the cross entropy from images to texts plus half of that from texts to images, as in
    StableRep+: over cosine similarities times `scale`, with all of the same id as positives.

    `images` [N,D] with ids int64 [N], `texts` [M,D] with ids int64 [M]; a text may be there twice.
    A row without a positive is left out of its mean (our choice).
    """
    unit = functional.normalize(images.float(), dim=1)
    logits = scale * unit @ functional.normalize(texts.float(), dim=1).T
    positives = (image_ids[:, None] == text_ids[None, :]).to(logits.dtype)
    return 0.5 * (_towards(logits, positives) + _towards(logits.T, positives.T))


def _towards(logits: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    counts = positives.sum(dim=1)
    per_row = -(positives * logits.log_softmax(dim=1)).sum(dim=1) / counts.clamp(min=1.0)
    return per_row.sum() / (counts > 0).sum().clamp(min=1)
