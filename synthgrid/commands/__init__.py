"""Commands that need both halves: client and trainer know nothing of each other."""
