"""The compiled core against the reference simulator."""
