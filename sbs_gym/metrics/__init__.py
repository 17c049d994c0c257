"""Records to numbers: latency, utilisation, overload and the flat summary of a run."""
