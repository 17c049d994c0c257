"""Purposes of the WORKLOAD stream: who uses which random number.

Plain integers, because compiled code reads them. `rng.normal` also uses purpose + 1000, so all are
below 1000. A gamma draw uses its purpose and the next two.
"""

from sbs_gym.rng import Stream

STREAM = int(Stream.WORKLOAD)

INPUT_TOKENS = 1
OUTPUT_TOKENS = 2
GAP = 3
FIRST_GAP = 4
DWELL = 5
FIRST_STATE = 6
SESSION_START = 7
SESSION_CONTINUES = 8
THINK = 9
STARTED_SESSIONS = 10
RESIDUAL = 11
TICK_OFFSET = 12
THIN = 13
SHIFT = 14
RESAMPLE = 15
NAMESPACE = 16
GAMMA_GAP = 20
GAMMA_FIRST_GAP = 30
