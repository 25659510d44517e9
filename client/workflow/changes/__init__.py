"""What a user may change in a workflow: options, inputs of any node, and captions."""
