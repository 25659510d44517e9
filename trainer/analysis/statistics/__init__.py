"""Intervals, tests and their corrections, power, and looking several times. Pure functions."""
