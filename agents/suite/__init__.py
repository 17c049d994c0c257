"""The evaluation suite: which cells, who plays them, and what is said of the results."""
