"""Images on disk: reading, splitting and checking them, and which of them a cell of a grid is trained on. No torch."""

from trainer.data.dataset import Dataset, Sample, load_dataset
from trainer.data.images import read_image

__all__ = [
    "Dataset",
    "Sample",
    "load_dataset",
    "read_image",
]
