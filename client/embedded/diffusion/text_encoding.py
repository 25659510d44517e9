"""CLIP: from a prompt to conditioning, with ComfyUI's long prompts and weights (word:1.2)."""

from __future__ import annotations

from typing import Any

import torch

Token = tuple[int, float]  # id, weight
_WHOLE = 8  # a weighted part with fewer tokens is not split at the end of a chunk
_ESCAPES = {"\\(": "\x01", "\\)": "\x02"}


class TextEncoder:
    """CLIP: a CLIPTokenizer and a CLIPTextModel.

    Every chunk has `context_length` tokens, including begin and end.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self.model = tokenizer, model
        self.context_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    def with_model(self, model: Any) -> TextEncoder:
        """The same with other weights."""
        return TextEncoder(self._tokenizer, model)

    def tokenize(self, text: str) -> list[list[Token]]:
        """Chunks of `context_length` (token, weight) pairs; at least one, for any prompt length."""
        room = self.context_length - 2
        chunks: list[list[Token]] = [[]]
        for part, weight in weighted_parts(_hide_escapes(text)):
            ids = self._tokenizer(_show_escapes(part), add_special_tokens=False, verbose=False)[
                "input_ids"
            ]
            if len(ids) < _WHOLE and len(chunks[-1]) + len(ids) > room:
                chunks.append([])
            while ids:
                if len(chunks[-1]) == room:
                    chunks.append([])
                free = room - len(chunks[-1])
                chunks[-1] += [(token, weight) for token in ids[:free]]
                ids = ids[free:]
        return [self._framed(chunk) for chunk in chunks]

    def encode_from_tokens(self, tokens: list[list[Token]]) -> tuple[torch.Tensor, torch.Tensor]:
        """([1, chunks * context_length, width], pooled [1, width]), float32 on the CPU.

        The last hidden state after the final layer norm. A weighted token moves away from (or
        towards) what an empty prompt has in its place.
        """
        weights = torch.tensor([[weight for _, weight in chunk] for chunk in tokens]).unsqueeze(-1)
        is_weighted = bool((weights != 1.0).any())
        chunks = [*tokens, self._framed([])] if is_weighted else tokens
        ids = torch.tensor(
            [[token for token, _ in chunk] for chunk in chunks], device=self.model.device
        )
        answer = self.model(ids)
        states, pooled = answer.last_hidden_state.float().cpu(), answer.pooler_output.float().cpu()
        if is_weighted:
            states, empty = states[:-1], states[-1]
            states = torch.where(weights == 1.0, states, empty + weights * (states - empty))
        return states.reshape(1, -1, states.shape[-1]), pooled[:1]

    def encode_from_tokens_scheduled(self, tokens: list[list[Token]]) -> list[Any]:
        """CONDITIONING of one row: [[states, {"pooled_output": pooled}]]."""
        states, pooled = self.encode_from_tokens(tokens)
        return [[states, {"pooled_output": pooled}]]

    def _framed(self, chunk: list[Token]) -> list[Token]:
        """Begin, the chunk, end, then ends up to the full length, as CLIP was trained."""
        begin, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        filling = self.context_length - 1 - len(chunk)
        return [(begin, 1.0), *chunk, *[(end, 1.0)] * filling]


def weighted_parts(text: str, weight: float = 1.0) -> list[tuple[str, float]]:
    """ "a (red:1.5) (b)" -> [("a ", 1.0), ("red", 1.5), (" ", 1.0), ("b", 1.1)].

    Every plain pair of parentheses multiplies by 1.1.
    """
    parts: list[tuple[str, float]] = []
    for part in _split_at_parentheses(text):
        if len(part) < 2 or part[0] != "(" or part[-1] != ")":
            parts.append((part, weight))
            continue
        inner, inner_weight = part[1:-1], weight * 1.1
        before, colon, after = inner.rpartition(":")
        if colon and before:
            try:
                inner, inner_weight = before, float(after)
            except ValueError:
                inner = part[1:-1]
        parts += weighted_parts(inner, inner_weight)
    return parts


def _split_at_parentheses(text: str) -> list[str]:
    """ "a (b (c)) d" -> ["a ", "(b (c))", " d"]; a parenthesis without its partner stays text."""
    parts, current, depth = [], "", 0
    for letter in text:
        if letter == "(":
            if depth == 0 and current:
                parts.append(current)
                current = ""
            depth += 1
        current += letter
        if letter == ")" and depth > 0:
            depth -= 1
            if depth == 0:
                parts.append(current)
                current = ""
    return [*parts, current] if current else parts


def _hide_escapes(text: str) -> str:
    for written, stand_in in _ESCAPES.items():
        text = text.replace(written, stand_in)
    return text


def _show_escapes(text: str) -> str:
    for written, stand_in in _ESCAPES.items():
        text = text.replace(stand_in, written[1])
    return text
