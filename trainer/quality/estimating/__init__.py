"""Whether more synthetic images will help, from a sample of them."""
