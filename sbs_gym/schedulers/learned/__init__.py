"""Networks in the place of rules: their weights, and the compiled code that plays them."""
