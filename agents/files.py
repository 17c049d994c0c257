"""The names of the files that a training leaves in its directory; config.yaml besides."""

BEST = "policy.npz"  # the weights that did best in validation
LAST = "last.npz"
CURVE = "progress.csv"
CHECKPOINT = "checkpoint.pt"
RESULT = "result.json"  # there once the training is finished
STEPS = "time/total_timesteps"  # column of the curve, as Stable-Baselines3 names it
