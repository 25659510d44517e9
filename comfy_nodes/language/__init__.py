"""What language models and WordNet say about class names, read into prompt banks."""
