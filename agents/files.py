"""The names of the files of trainings and evaluations; config.yaml besides."""

from sbs_gym.config.learned import BEST as BEST

LAST = "last.npz"
CURVE = "progress.csv"
CHECKPOINT = "checkpoint.pt"
RESULT = "result.json"  # there once the training is finished
LOCK = ".lock"  # held while a process trains
TABLES = ("suite.json", "overload.json", "shift.json")  # of an evaluation
STEPS = "time/total_timesteps"  # column of the curve, as Stable-Baselines3 names it
