"""Schedulers: compositions of small rules, and the compiled loop that asks them."""
