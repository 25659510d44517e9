"""Rows on a checkpoint in the shape of SDXL, whose prompts have a pooled vector beside the tokens:
every image of a mixed batch is what the stock KSampler makes alone.

It takes some 7 GB of memory and minutes.
"""

import pytest
import sdxl_checkpoint
import torch
from test_rows import batch_graph, latents, relative_difference, stock_graph

pytestmark = pytest.mark.slow
XL = sdxl_checkpoint.NAME


@pytest.fixture(scope="module")
def sdxl(comfyui):
    """The server, with the checkpoint beside the small one."""
    sdxl_checkpoint.write_checkpoint(comfyui.base / "models" / "checkpoints" / XL)
    return comfyui


def test_a_row_is_what_the_stock_sampler_makes_alone(sdxl):
    graph, plan = batch_graph("euler", batch_size=6, checkpoint=XL)
    rows = latents(sdxl, graph)
    specs = plan.batch(0, 6)
    assert len({len(spec.prompt) > 300 for spec in specs}) == 2
    assert torch.isfinite(rows).all()
    for row, spec in enumerate(specs):
        alone = latents(sdxl, stock_graph("euler", spec.prompt, spec.seed, checkpoint=XL))
        assert relative_difference(rows[row], alone[0]) < 1e-4


def test_the_checkpoint_listens_to_its_prompt(sdxl):
    """Otherwise the test above would also pass with the prompts mixed up."""
    first, second = (
        latents(sdxl, stock_graph("euler", prompt, 1, checkpoint=XL))
        for prompt in ("a photo of a bat", "a bear")
    )
    assert relative_difference(first, second) > 1e-2
