"""Stable Diffusion for the embedded engine: checkpoints, text encoding, noise schedules, samplers and guidance."""
