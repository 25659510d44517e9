"""How the embedded engine's tiny latent diffusion checkpoint is made and measured.

Start reading at tools/tiny_digits/train.py. The engine needs none of this, only the checkpoint on
disk.
"""
