"""sbs_gym: when to release LLM requests and where to put them, in P/D-separated DP+EP serving."""

__version__ = "0.1.0"
