"""A byte-level BPE tokenizer in CLIP's format, trained on the captions of the grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_TOKENS = 40
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# CLIP's own rule for words: special tokens, English endings, letters, single digits, the rest.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def train_tokenizer(captions: Sequence[str], folder: Path, *, merges: int = 320) -> CLIPTokenizer:
    """Learn merges from `captions`, write the CLIP files to `folder`, and load them back.

    All 256 bytes are tokens, by themselves and at the end of a word, so that no text is unknown.
    """
    vocabulary, pairs = _learn_merges(captions, merges)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "unk_token": EOS}
    config = {
        **special,
        "do_lower_case": True,
        "model_max_length": MAX_TOKENS,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2) + "\n", encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(
        json.dumps(special, indent=2) + "\n", encoding="utf-8"
    )
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _learn_merges(
    captions: Sequence[str], merges: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary order: bytes, bytes that end a word, merges, then begin and end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=2 * len(alphabet) + merges,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    learnt = json.loads(learner.to_str())["model"]["merges"]
    pairs = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learnt]
    tokens = [
        *alphabet,
        *(byte + "</w>" for byte in alphabet),
        *("".join(pair) for pair in pairs),
        BOS,
        EOS,
    ]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, pairs
