"""Environments for learners: a core and its Gymnasium, vector and Stable-Baselines3 shells."""
