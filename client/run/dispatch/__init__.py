"""The threads of a run: which job is where, who posts and collects it, and what they share."""
