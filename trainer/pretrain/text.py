"""The text side of StableRep+ (Tian et al. 2023): words, and the tower that reads them.

From the paper: a transformer that is 512 wide, linear projections of both sides, a learned logit
scale that starts at log(1/0.07). Our choices: words by hash instead of CLIP's byte pairs, so that
there is no vocabulary to keep; a smaller tower; attention both ways and the mean over the words.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import torch
from torch import nn

BUCKETS, WORDS = 1 << 14, 77
_PADDING, _START, _RESERVED = 0, 1, 2
_HEAD_WIDTH = 64  # as 512 over 8 heads
_LARGEST = math.log(100)  # of the logit scale, as in CLIP


def word_numbers(captions: Sequence[str]) -> torch.Tensor:
    """int64 [n, longest]: a start, then a number for each word or mark in lower case, 0 behind the
    end. Words after the 76th are left out; two words in one of 16,382 buckets are one word."""
    lines = [[_START, *map(_bucket, _words(caption))][:WORDS] for caption in captions]
    longest = max(map(len, lines))
    return torch.tensor([line + [_PADDING] * (longest - len(line)) for line in lines])


def _words(caption: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", caption.casefold())


def _bucket(word: str) -> int:
    digest = hashlib.sha256(word.encode("utf-8", errors="surrogatepass")).digest()
    return _RESERVED + int.from_bytes(digest[:8], "big") % (BUCKETS - _RESERVED)


class TextTower(nn.Module):
    """Word numbers [n, up to 77] to [n, width]: a transformer with pre-normalisation, then a linear
    projection of the mean over the words."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(BUCKETS, width, padding_idx=_PADDING)
        self.places = nn.Parameter(torch.randn(WORDS, width) * 0.01)
        layer = nn.TransformerEncoderLayer(
            width, width // _HEAD_WIDTH, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """What stands behind the end is neither read nor averaged."""
        empty = numbers == _PADDING
        values = self.words(numbers) + self.places[: numbers.shape[1]]
        read = self.norm(self.layers(values, src_key_padding_mask=empty))
        kept = (~empty).unsqueeze(2).to(read.dtype)
        projected: torch.Tensor = self.projection((read * kept).sum(dim=1) / kept.sum(dim=1))
        return projected


class Alignment(nn.Module):
    """What joins the sides: the text tower, a projection of the image features [n, D] to its width,
    and the logarithm of the scale of the logits."""

    def __init__(self, features: int, width: int, layers: int) -> None:
        super().__init__()
        self.tower = TextTower(width, layers)
        self.image = nn.Linear(features, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @torch.no_grad()
    def limit(self) -> None:
        """Holds the scale between 1 and 100; called after each update."""
        self.log_scale.clamp_(0.0, _LARGEST)
