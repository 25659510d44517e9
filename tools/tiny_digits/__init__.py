"""How the embedded engine's tiny latent diffusion checkpoint is made and measured.

The story is tools/tiny_digits/train.py; the engine itself needs none of this, only the checkpoint on disk.
"""
