"""Hyper-parameters chosen by cross-validation inside the real training images."""
