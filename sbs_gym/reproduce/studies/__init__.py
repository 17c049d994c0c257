"""The studies: one module for each family of questions."""
