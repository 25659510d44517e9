"""The front door: one command, `synthgrid`, with the client's and the trainer's sub-commands."""
