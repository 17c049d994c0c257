"""Stable-Baselines3 where time between decisions varies: discounts follow from seconds."""
