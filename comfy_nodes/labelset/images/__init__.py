"""Image files: written with texts inside, opened within bounds, checked, and decoded to RGB."""
