"""A prompt from its validation over the queue to its history, with V1 semantics."""
