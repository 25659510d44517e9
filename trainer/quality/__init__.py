"""Judging synthetic images: each by itself, sets against each other, and whether to make more."""
