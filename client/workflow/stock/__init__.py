"""Stock Stable Diffusion workflows: what they are made of, and how one becomes SynthGrid's."""
