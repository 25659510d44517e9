"""SynthGrid's trainer: whether synthetic images make a classifier better, and by how much."""
