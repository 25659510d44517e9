"""Which real images are for training, validation and test."""
