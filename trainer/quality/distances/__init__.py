"""How far sets of images are from real ones."""
