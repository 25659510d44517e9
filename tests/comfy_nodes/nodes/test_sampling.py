"""Conditioning, latent and noise of a mixed batch: row i is what image i alone would get."""

import hashlib
import math

import pytest
import torch

from comfy_nodes.errors import PlanError
from comfy_nodes.nodes.batcher import PromptBatch
from comfy_nodes.nodes.sampling import BatchLatent, EncodeClassPrompts, PerImageNoise, refuse_huge
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates


class WordClip:
    """A text encoder with ComfyUI's methods: a fixed vector per word, padded to multiples of 7."""

    calls = 0

    def tokenize(self, text):
        words = text.split() or [""]
        return words + [""] * (-len(words) % 7)

    def encode_from_tokens_scheduled(self, tokens):
        self.calls += 1
        rows = [
            torch.randn(5, generator=torch.Generator().manual_seed(self.seed(word)))
            for word in tokens
        ]
        return [[torch.stack(rows)[None], {"pooled_output": rows[0][None]}]]

    def seed(self, word):
        return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")


def make_batch(names=("bat", "cat"), *, per_class=2, batch_size=8, index=0, templates=None):
    plan = GenerationPlan(tuple(map(ClassEntry, names)), templates or PromptTemplates(), per_class)
    return PromptBatch(plan, plan.batch(index, batch_size), index, plan.batch_count(batch_size))


def test_every_row_is_encoded_as_if_alone_and_each_prompt_once():
    clip, batch = WordClip(), make_batch()
    positive, negative = EncodeClassPrompts().encode(clip, batch)
    assert positive[0][0].shape == (4, 7, 5)
    assert negative[0][0].shape == (1, 7, 5)
    assert clip.calls == 3  # two classes and the empty negative prompt
    for row, spec in enumerate(batch.specs):
        alone = clip.encode_from_tokens_scheduled(clip.tokenize(spec.prompt))[0]
        assert torch.equal(positive[0][0][row : row + 1], alone[0])
        assert torch.equal(
            positive[0][1]["pooled_output"][row : row + 1], alone[1]["pooled_output"]
        )


def test_a_stock_node_that_garbles_the_rows_is_noticed_after_a_cached_run_too(monkeypatch):
    monkeypatch.setattr(EncodeClassPrompts, "has_mixed_lengths", False)
    EncodeClassPrompts().encode(WordClip(), make_batch())
    assert EncodeClassPrompts.IS_CHANGED() == ""
    templates = PromptTemplates(("a {class}", "a {class} " + "and more " * 7))
    EncodeClassPrompts().encode(WordClip(), make_batch(templates=templates))
    assert math.isnan(EncodeClassPrompts.IS_CHANGED())


def test_a_checkpoint_without_text_encoder_is_named():
    with pytest.raises(PlanError, match="no text encoder"):
        EncodeClassPrompts().encode(None, make_batch())


def test_the_latent_has_one_row_per_image_in_the_last_batch_too():
    (latent,) = BatchLatent().create(make_batch(batch_size=3, index=1), 64, 32)
    assert latent["samples"].shape == (1, 4, 4, 8)


def test_a_batch_that_no_memory_holds_is_refused_in_words_before_it_is_allocated():
    batch = make_batch(per_class=600, batch_size=1200)
    BatchLatent().create(batch, 64, 64)
    expected = r"1200 images of 512 x 512 pixels .* at most 1024 are possible: lower batch_size"
    with pytest.raises(PlanError, match=expected):
        BatchLatent().create(batch, 512, 512)
    refuse_huge(1, 16384, 16384)  # the largest image that the widgets allow
    with pytest.raises(PlanError, match="at most 1 are"):
        refuse_huge(2, 16384, 16384)


def test_noise_of_a_row_is_the_stock_noise_of_its_seed():
    batch = make_batch()
    (noise,) = PerImageNoise().create(batch)
    rows = noise.generate_noise({"samples": torch.zeros(4, 4, 8, 8)})
    for row, spec in enumerate(batch.specs):
        alone = torch.randn((1, 4, 8, 8), generator=torch.manual_seed(spec.seed))
        assert torch.equal(rows[row : row + 1], alone)
    assert noise.seed == batch.specs[0].seed


def test_drawing_noise_leaves_the_global_random_state_alone():
    (noise,) = PerImageNoise().create(make_batch())
    before = torch.get_rng_state()
    noise.generate_noise({"samples": torch.zeros(4, 4, 8, 8)})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_latent_of_another_size_is_refused_instead_of_dropping_prompts():
    (noise,) = PerImageNoise().create(make_batch())
    with pytest.raises(PlanError, match="3 images but the batch has 4; connect"):
        noise.generate_noise({"samples": torch.zeros(3, 4, 8, 8)})
