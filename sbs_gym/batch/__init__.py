"""Many worlds at once, stepped from question to question by compiled code."""
