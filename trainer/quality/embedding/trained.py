"""An embedder for drawings, digits, scans: a small CNN trained on half of the user's real images.

A network knows the images that it was trained on too well to judge others by them. So of each class
every second image trains it, in the order of their hashes, and `run_check` judges by the rest.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from trainer.config import GridConfig
from trainer.data.images import read_image
from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.models.cnn import SmallCNN
from trainer.quality.embedding.embedder import CNN, Embedder
from trainer.quality.embedding.features import equalised
from trainer.training.batches.inputs import ModelInputs
from trainer.training.classifier import new_network
from trainer.training.engine import fit
from trainer.training.fits import LabelledTensors

_SIZE_PX = 32
_FEWEST = 4  # real images per class: two to train on, two to judge by
_BATCH = 256


def trained_embedder(real: Sequence[Sample], *, device: torch.device, seed: int = 0) -> Embedder:
    """The penultimate layer, 128 wide, of the grid's small CNN trained by the modern recipe without
    mirroring, at 32 pixels.

    Raises:
        DataError: a class has fewer than 4 real images, or one cannot be decoded.
        RunError: the training diverged.
    """
    chosen = _every_second(real)
    classes = sorted({each.label for each in chosen})
    labels = torch.tensor([classes.index(each.label) for each in chosen])
    shown = [
        equalised(read_image(each.path), common_px=_SIZE_PX, size_px=_SIZE_PX) for each in chosen
    ]
    pixels = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).contiguous()
    rows = torch.arange(len(chosen))
    inputs = ModelInputs(pixels, {each.sha256: row for row, each in enumerate(chosen)})
    network = new_network(
        *(CNN, len(classes)),
        seed=seed,
        image_size_px=_SIZE_PX,
        inputs=inputs,
        standardise_on=rows,
    )
    # Only for its choices of hyper-parameters; no grid is run.
    config = GridConfig("real", "out", models=(CNN,), ratios=(0.0,), mirror=False)
    fit(
        network,
        inputs.on(device),
        train=LabelledTensors(rows, labels),
        validation=LabelledTensors(rows[:0], labels[:0]),
        config=config.training_for(CNN, train_images=len(chosen)),
        seed=seed,
        device=device,
    )
    scale, cnn = network.eval().requires_grad_(False)
    assert isinstance(cnn, SmallCNN)

    @torch.inference_mode()
    def embed(batch: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [
                cnn.blocks(scale(part.to(device).float())).mean(dim=(2, 3)).cpu()
                for part in batch.split(_BATCH)
            ]
        )

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return Embedder(
        CNN,
        _SIZE_PX,
        digest.hexdigest()[:16],
        f"trained on {len(chosen)} of the real images",
        embed,
        trained_on=frozenset(each.sha256 for each in chosen),
    )


def _every_second(real: Sequence[Sample]) -> list[Sample]:
    by_class: dict[str, dict[str, Sample]] = defaultdict(dict)
    for each in real:
        by_class[each.label][each.sha256] = each
    for label, images in by_class.items():
        if len(images) < _FEWEST:
            raise DataError(
                f"class '{label}' has {len(images)} different real images; the embedder {CNN} "
                f"needs at least {_FEWEST} of each, half of them to be trained on"
            )
    return [images[digest] for images in by_class.values() for digest in sorted(images)[::2]]
