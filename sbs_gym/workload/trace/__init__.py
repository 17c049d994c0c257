"""Request traces: readers per format, cleaning, rate scaling and statistics."""
