"""Rows of a conditioning: averaged and joined as alone, and never garbled by a stock node."""

import pytest
import torch

from comfy_nodes.errors import PlanError
from comfy_nodes.nodes.conditioning import average, concat, refuse_mixers, stack_conditionings
from comfy_nodes.nodes.sampling import EncodeClassPrompts
from comfy_nodes.plan import PromptTemplates
from tests.comfy_nodes.nodes.test_sampling import WordClip, make_batch


def encoded(text):
    clip = WordClip()
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def test_lengths_that_would_fill_the_memory_are_refused_with_a_way_out():
    rows = [[[torch.zeros(1, 77 * chunks, 2), {}]] for chunks in (29, 31, 37)]
    with pytest.raises(PlanError, match=r"2233, 2387, 2849 tokens, .* 2561251 .* batch_size to 1"):
        stack_conditionings(rows)
    alike = [[[torch.zeros(1, 2**18, 1), {}]]] * 5
    assert stack_conditionings(alike)[0][0].shape == (5, 2**18, 1)


def test_rows_of_different_length_are_repeated_to_a_common_one():
    short, long, longer = (encoded("word " * count) for count in (3, 9, 15))
    tensor = stack_conditionings([short, long, longer])[0][0]
    assert tensor.shape == (3, 42, 5)
    for row, alone in enumerate((short, long, longer)):
        length = alone[0][0].shape[1]
        assert torch.equal(
            tensor[row].reshape(-1, length, 5), alone[0][0].expand(42 // length, length, 5)
        )


def test_repeating_a_row_leaves_what_attention_answers():
    query, row = torch.randn(1, 4, 5), torch.randn(1, 7, 5)
    attention = torch.nn.functional.scaled_dot_product_attention
    repeated = row.repeat(1, 3, 1)
    torch.testing.assert_close(attention(query, row, row), attention(query, repeated, repeated))


@pytest.mark.parametrize("words", [3, 9, 20])
def test_averaging_cuts_or_fills_the_other_conditioning(words):
    to, other = encoded("word " * 9), encoded("style " * words)
    tensor, extras = average(to, other, 0.75)[0]
    for token in range(14):
        added = other[0][0][0, token] if token < other[0][0].shape[1] else torch.zeros(5)
        torch.testing.assert_close(tensor[0, token], 0.75 * to[0][0][0, token] + 0.25 * added)
    pooled = 0.75 * to[0][1]["pooled_output"] + 0.25 * other[0][1]["pooled_output"]
    torch.testing.assert_close(extras["pooled_output"], pooled)


def test_every_prompt_is_averaged_and_joined_before_rows_get_one_length():
    templates = PromptTemplates(("a {class}", "a {class} " + "and more " * 7))
    batch, style, place = make_batch(templates=templates), encoded("oil " * 9), encoded("a wood")
    (rows, extras), negative = (
        made[0] if number == 0 else made
        for number, made in enumerate(
            EncodeClassPrompts().encode(WordClip(), batch, style, 0.5, place)
        )
    )
    lengths = set()
    for row, spec in enumerate(batch.specs):
        alone, alone_extras = concat(average(encoded(spec.prompt), style, 0.5), place)[0]
        length = alone.shape[1]
        lengths.add(length)
        repeated = alone.repeat(1, rows.shape[1] // length, 1)
        assert torch.equal(rows[row : row + 1], repeated)
        assert torch.equal(extras["pooled_output"][row], alone_extras["pooled_output"][0])
    assert len(lengths) == 2
    assert torch.equal(negative[0][0], encoded("")[0][0])


@pytest.mark.parametrize("name", ["average_with", "concat_with"])
def test_another_conditioning_has_one_row(name):
    rows = stack_conditionings([encoded("a"), encoded("b")])
    with pytest.raises(PlanError, match=f"'{name}' has 2 prompts"):
        EncodeClassPrompts().encode(WordClip(), make_batch(), **{name: rows})


def graph(kind, *, to=("encode", 0), other=("text", 0)):
    """A stock node behind a reroute of one node that leads on, and a sampler behind it."""
    return {
        "encode": {"class_type": "SynthGridEncodeClassPrompts", "inputs": {"clip": ["c", 1]}},
        "second": {"class_type": "SynthGridEncodeClassPrompts", "inputs": {"clip": ["c", 1]}},
        "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["c", 1]}},
        "range": {
            "class_type": "ConditioningSetTimestepRange",
            "inputs": {"conditioning": list(to), "start": 0.0, "end": 1.0},
        },
        "mix": {
            "class_type": kind,
            "inputs": {"conditioning_to": ["range", 0], "conditioning_from": list(other)},
        },
    }


def check(prompt, rows, *lengths):
    refuse_mixers(prompt, "encode", rows=rows, lengths=lengths)


def test_averaging_rows_of_one_length_stays_with_the_stock_node_and_mixed_lengths_are_refused():
    check(graph("ConditioningAverage"), 8, 77, 77)
    with pytest.raises(PlanError, match=r"node mix, ConditioningAverage.*77 and 154.*average_with"):
        check(graph("ConditioningAverage"), 8, 77, 154)


def test_joining_is_refused_unless_both_sides_have_the_rows():
    check(graph("ConditioningConcat"), 1, 77)
    with pytest.raises(PlanError, match=r"node mix, ConditioningConcat.*8 prompts.*concat_with"):
        check(graph("ConditioningConcat"), 8, 77)
    both = graph("ConditioningConcat", other=("second", 0))
    both["mix"]["inputs"]["conditioning_to"] = ["encode", 0]
    check(both, 8, 77)
    with pytest.raises(PlanError, match="concat_with"):
        check(both, 8, 77, 154)
    both["mix"]["inputs"]["conditioning_from"] = ["second", 1]  # the negative prompt, one row
    with pytest.raises(PlanError, match="concat_with"):
        check(both, 8, 77)


def test_the_negative_prompt_and_what_comes_after_a_sampler_are_nobodys_rows():
    check(graph("ConditioningAverage", to=("encode", 1)), 8, 77, 154)
    behind = graph("ConditioningAverage")
    behind["range"]["class_type"] = "CFGGuider"
    check(behind, 8, 77, 154)
    circle = graph("ConditioningSetArea")
    circle["range"]["inputs"]["more"] = ["mix", 0]
    check(circle, 8, 77, 154)
