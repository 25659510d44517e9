"""What an update sees: which images, how they are changed and mixed, and where they wait."""
