"""Images that two parts of a data set must not share, and how they are recognised."""
