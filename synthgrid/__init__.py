"""The front door: one command, `synthgrid`, with the sub-commands of the client and of the trainer."""
