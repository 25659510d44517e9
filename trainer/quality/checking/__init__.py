"""Is each image what its label says, and usable? One score a file, and what is made of them."""
