"""The sections of a grid's report, one file each."""
