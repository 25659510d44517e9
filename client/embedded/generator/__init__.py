"""How the embedded engine's tiny latent diffusion checkpoint is made and measured.

The story is client/embedded/train_generator.py; the engine itself needs none of this, only the checkpoint on disk.
"""
