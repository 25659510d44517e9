"""A trained run put to use: prediction, evaluation and export."""
