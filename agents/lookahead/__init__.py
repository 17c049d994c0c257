"""Learning from answers that were tried out under the same future."""
