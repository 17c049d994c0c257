"""What goes into a network: the groups of an observation, and how far a number may stand out.

For policies in torch, their files and the agents read from these, without torch; the compiled loop
clips alike in sbs_gym/schedulers/learned/forward.py.
"""

SINGLE = ("global", "request")  # groups of one row
ROWS = ("instances", "ranks", "decode_ranks")
CLIP = 10.0  # standard deviations
