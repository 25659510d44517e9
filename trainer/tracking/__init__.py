"""A grid's runs in a tracker of experiments: TensorBoard, MLflow, Weights & Biases, Trackio."""

from trainer.tracking.tracker import KINDS, Tracked, Tracker, open_tracker

__all__ = ["KINDS", "Tracked", "Tracker", "open_tracker"]
