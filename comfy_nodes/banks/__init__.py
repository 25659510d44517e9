"""Banks of contexts, styles and definitions: files that people edit and plans draw from."""

from .entries import BankEntry, read_bank

__all__ = ["BankEntry", "read_bank"]
