"""A second simulator in plain Python, written from `docs/semantics.md` alone."""
