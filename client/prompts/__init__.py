"""A prompt bank from class names: by a language model, or offline."""
