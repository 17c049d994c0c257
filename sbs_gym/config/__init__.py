"""Configuration: frozen, validated dataclasses with units, ranges and sources."""
