"""Stable Diffusion for the embedded engine: checkpoints, text, schedules, samplers, guidance."""
