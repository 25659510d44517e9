"""Which meaning of a class name the user's own images show."""
