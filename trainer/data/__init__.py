"""Images on disk: reading, splitting and checking them, and choosing those of a cell. No torch."""

from trainer.data.dataset import Dataset, load_dataset
from trainer.data.images import read_image
from trainer.data.samples import Sample

__all__ = [
    "Dataset",
    "Sample",
    "load_dataset",
    "read_image",
]
