"""Pass duration: coefficients of a hardware model, and compiled functions of tokens per rank."""
