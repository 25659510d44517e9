"""A tiny CLIPTextModel that learns the grammar before it sees any image, and is then frozen.

It is trained to predict every attribute from every position at and after end-of-text, in place of
CLIP's own pre-training. Without that, the diffusion model is slow to follow its prompt.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .grammar import CONTEXTS, STROKES, TILTS, WEIGHTS, Description, caption, random_description
from .schedule import warmup_cosine
from .tokenizer import MAX_TOKENS

logger = logging.getLogger(__name__)

WIDTH = 64
_CLASSES = {
    "digit": 11,
    "context": len(CONTEXTS),
    "stroke": len(STROKES),
    "weight": len(WEIGHTS),
    "tilt": len(TILTS),
}


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers, 64 wide, four heads."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Captions to int64 [B, 40], cut or padded with end-of-text as CLIP does."""
    rows = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    return rows.input_ids


def teach_grammar(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, *, steps: int, batch: int, seed: int
) -> dict[str, float]:
    """Train `encoder` in place; returns the share of each attribute predicted in the last steps."""
    rng = random.Random(seed)
    heads = nn.ModuleDict({name: nn.Linear(WIDTH, count) for name, count in _CLASSES.items()})
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    schedule = warmup_cosine(optimizer, steps=steps)
    right = dict.fromkeys(_CLASSES, 0.0)
    for step in range(steps):
        descriptions = [_description(rng) for _ in range(batch)]
        tokens = tokenize(tokenizer, [caption(description, rng) for description in descriptions])
        hidden = encoder(tokens).last_hidden_state
        # cumsum marks end-of-text and everything after it; the padding is end-of-text too.
        after = (tokens == tokenizer.eos_token_id).cumsum(1) > 0
        loss = torch.zeros(())
        for name, head in heads.items():
            target = torch.tensor([_target(name, description) for description in descriptions])
            logits = head(hidden)
            each = nn.functional.cross_entropy(
                logits.transpose(1, 2), target[:, None].expand(-1, MAX_TOKENS), reduction="none"
            )
            loss = loss + (each * after).sum() / after.sum()
            hit = (logits[:, -1].argmax(-1) == target).float().mean().item()
            right[name] = 0.98 * right[name] + 0.02 * hit if step else hit
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
            message = "text encoder: step %d of %d, loss %.3f (%s)"
            logger.info(message, step + 1, steps, loss.item(), shares)
    return {name: round(share, 4) for name, share in right.items()}


class ContextEncoder:
    """Encodes captions for the UNet, float32 [B,40,64]; keeps up to `keep` encoded captions."""

    def __init__(
        self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, *, keep: int = 4_000
    ) -> None:
        self._encoder, self._tokenizer, self._keep = encoder, tokenizer, keep
        self._known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        new = [text for text in dict.fromkeys(captions) if text not in self._known]
        fresh = dict(zip(new, self._encode(new), strict=True)) if new else {}
        rows = torch.stack(
            [self._known[text] if text in self._known else fresh[text] for text in captions]
        )
        for text in new[: self._keep - len(self._known)]:
            self._known[text] = fresh[text].clone()
        return rows

    def _encode(self, captions: list[str]) -> torch.Tensor:
        return self._encoder(tokenize(self._tokenizer, captions)).last_hidden_state


def _description(rng: random.Random) -> Description:
    digit = rng.randrange(10)
    chosen = random_description(digit, rng, plain_share=0.2)
    return chosen if rng.random() > 0.08 else Description(None, *_style(chosen))


def _style(description: Description) -> tuple[str, str, str, str]:
    return description.context, description.stroke, description.weight, description.tilt


def _target(name: str, description: Description) -> int:
    if name == "digit":
        return 10 if description.digit is None else description.digit
    values = {"context": CONTEXTS, "stroke": STROKES, "weight": WEIGHTS, "tilt": TILTS}[name]
    return values.index(getattr(description, name))
