"""Prompts of any length, and weights, as ComfyUI tokenizes and encodes them."""

from __future__ import annotations

import pytest
import torch

from client.embedded.diffusion import checkpoints as loading
from client.embedded.diffusion.text_encoding import TextEncoder, weighted_parts

BEGIN, END = 512, 513


@pytest.fixture(scope="module")
def clip(checkpoints) -> TextEncoder:
    return loading.load(checkpoints / "random")[1]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("plain", [("plain", 1.0)]),
        ("a (red:1.5) fox", [("a ", 1.0), ("red", 1.5), (" fox", 1.0)]),
        ("((very)) far", [("very", 1.1 * 1.1), (" far", 1.0)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 2.0), (" c", 0.5)]),
        ("(time 12:30 pm)", [("time 12:30 pm", 1.1)]),
        ("(:1.2)", [(":1.2", 1.1)]),
        ("open ( only", [("open ", 1.0), ("( only", 1.0)]),
        (") close", [(") close", 1.0)]),
    ],
)
def test_parentheses_weigh(text, parts):
    found = weighted_parts(text)
    assert [part for part, _ in found] == [part for part, _ in parts]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in parts])


def test_a_short_prompt_is_framed_and_filled_up(clip):
    (chunk,) = clip.tokenize("ab")
    assert [token for token, _ in chunk][:1] == [BEGIN]
    assert [token for token, _ in chunk][3:] == [END] * 9
    assert len(chunk) == clip.context_length == 12


def test_the_empty_prompt_is_one_chunk(clip):
    assert [token for token, _ in clip.tokenize("")[0]] == [BEGIN] + [END] * 11


@pytest.mark.parametrize(("letters", "chunks"), [(10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_long_prompt_fills_one_chunk_after_another(clip, letters, chunks):
    tokens = clip.tokenize("x" * letters)
    assert [len(chunk) for chunk in tokens] == [12] * chunks
    assert all(chunk[0][0] == BEGIN and chunk[-1][0] == END for chunk in tokens)
    assert sum(token not in (BEGIN, END) for chunk in tokens for token, _ in chunk) == letters


def test_a_short_weighted_part_is_not_torn_apart(clip):
    first, second = clip.tokenize("xxxxxxxx (abc:1.2)")
    assert [weight for _, weight in first] == [1.0] * 12
    assert [weight for _, weight in second] == [1.0, 1.2, 1.2, 1.2] + [1.0] * 8


def test_an_escaped_parenthesis_is_text(clip):
    assert clip.tokenize("\\(a\\)") != clip.tokenize("a")
    assert all(weight == 1.0 for _, weight in clip.tokenize("\\(a\\)")[0])


def test_chunks_are_encoded_apart_and_joined(clip):
    long, _ = clip.encode_from_tokens(clip.tokenize("x " * 20))
    short, pooled = clip.encode_from_tokens(clip.tokenize("x " * 10))
    assert long.shape == (1, 24, 16)
    assert pooled.shape == (1, 16)
    assert torch.allclose(long[:, :12], short, atol=1e-5)


def test_the_encoding_is_the_last_state_after_the_final_norm(clip):
    tokens = clip.tokenize("ab")
    ids = torch.tensor([[token for token, _ in tokens[0]]])
    with torch.no_grad():
        expected = clip.model(ids, output_hidden_states=True)
        states, _ = clip.encode_from_tokens(tokens)
    assert torch.allclose(states, expected.last_hidden_state)
    assert not torch.allclose(states, expected.hidden_states[-1])


def test_a_weight_moves_its_tokens_away_from_the_empty_prompt(clip):
    plain, weighted, empty = (
        clip.encode_from_tokens(clip.tokenize(text))[0] for text in ("ab", "(ab:2)", "")
    )
    assert torch.allclose(weighted[:, 1:3], (empty + 2.0 * (plain - empty))[:, 1:3], atol=1e-5)
    assert torch.allclose(weighted[:, 3:], plain[:, 3:], atol=1e-5)


def test_conditioning_has_comfyuis_form(clip):
    ((states, extras),) = clip.encode_from_tokens_scheduled(clip.tokenize("ab"))
    assert states.shape == (1, 12, 16)
    assert extras["pooled_output"].shape == (1, 16)
