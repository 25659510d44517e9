"""Numbers from true and predicted classes. Pure functions; NumPy and scikit-learn only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

METRICS = {"accuracy": "Accuracy", "precision": "Macro precision", "recall": "Macro recall", "f1": "Macro F1"}


def classification_metrics(
    true: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, num_classes: int
) -> dict[str, float]:
    """Accuracy and macro-averaged precision, recall and F1, each in 0..1; class indices in 0..num_classes-1.

    A class that is never predicted has precision 0, as one that never occurs has recall 0. Macro recall equals
    accuracy when every class has the same number of images.
    """
    true_array, predicted_array = np.asarray(true), np.asarray(predicted)
    precision, recall, f1, _ = precision_recall_fscore_support(
        true_array, predicted_array, labels=range(num_classes), average="macro", zero_division=0
    )
    accuracy = float((true_array == predicted_array).mean()) if true_array.size else 0.0
    return {"accuracy": accuracy, "precision": float(precision), "recall": float(recall), "f1": float(f1)}


def confusion_matrix(
    true: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts [num_classes, num_classes]: row is the true class, column the predicted one."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return matrix
