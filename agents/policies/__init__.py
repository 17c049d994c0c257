"""Networks that choose: flat ones, and ones that treat ranks and instances alike."""
