"""The compiled simulator: what happens in the cluster, and what a scheduler may know of it."""
