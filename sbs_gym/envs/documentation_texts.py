"""What the environments share, in words: reward terms, info, episodes, seeds, shells."""

from __future__ import annotations

PROCESS = """
A partially observed semi-Markov decision process. The agent sees what a scheduler can know, never
the length of an answer, the true state of an engine, or what will arrive. Between two questions
passes any time, often none at all: placements of one release are steps of zero seconds. What
arrives, and the luck of the engines, does not depend on the answers. The task continues: an episode
is a window cut out of it.

Because steps last unequally long, a constant discount per step would value the same second
differently from step to step. Time is discounted instead, `exp(-t / tau_s)`, inside a step as well
as between steps; `info["discount"]`, `exp(-elapsed_s / tau_s)`, takes the place of gamma.
"""

# Of every term: its unit and its value over one step; `open` requests wait for their first token.
REWARD_TERMS = {
    "ttft": (
        "s",
        "minus the integral over time of the requests that have arrived and have no first token; "
        "over an episode minus the sum of TTFTs, each from the end of the warm-up at the earliest, "
        "and to the horizon if there is no first token",
    ),
    "tpot": (
        "s",
        "minus the integral of the requests between their first and their last token, plus "
        "`tpot_target_s` per token after the first of every request that finishes",
    ),
    "slo_miss": (
        "requests",
        "-1 per request that misses its SLO, when that is certain: at its first token, its last "
        "token or its rejection",
    ),
    "rejection": (
        "s",
        "minus `max(horizon left, 4 x TTFT allowed)` per request that the scheduler rejects",
    ),
    "prefill_bubble": ("rank-seconds", "minus what ranks lose at the barriers of prefill passes"),
    "decode_bubble": ("rank-seconds", "minus what ranks lose at the barriers of decode steps"),
    "input_tokens": ("tokens", "prompt tokens of the prefill passes that end"),
    "output_tokens": ("tokens", "tokens of the decode steps that end"),
}

REWARD = """
The sum of `reward.weights` x term, each discounted from the decision on. With `b = 1 / tau_s`, an
instant `u` seconds after the decision counts `exp(-b u)`; while a number `n` of requests stays the
same from `u0` to `u1`, that is `-n (exp(-b u0) - exp(-b u1)) / b`. A learner adds
`info["discount"]` x the value of what follows. `tau_s=None` discounts nothing: then a reward is the
weighted sum of its terms. A plain sum of rewards over an episode is discounted within steps and not
between them: to report or compare, sum `info["reward_terms"]`.

What is lost between the end of the warm-up and the first question is part of the first step,
undiscounted.

`tpot` is dense and signed. Its positive part above an SLO of 50 ms would be zero nearly always, and
come with a request's last token, seconds behind the choice that caused it.

`reward={"baseline": "sbs"}` subtracts what that preset has on the same arrivals and luck up to the
same horizon, from every term and from the reward. It takes out luck that no answer changes, so the
best policy stays the best one. The preset's run goes on as a compiled shadow beside the agent's.
"""

EPISODE_END = """
Truncated exactly `horizon_s` seconds behind the warm-up. Nothing ends there: a learner adds the
discounted value of the last observation, as it would within the episode. Terminated only when a
trace ends and all its requests are done, in the shadow's run too. At the end every action is legal,
and none has an effect.

`reset()` draws an episode, lets the background `scheduler` play its warm-up, and goes on to the
first question; an episode without a question is drawn again. If requests wait at the end of the
warm-up, the agent is asked at once. `reset(options={"load": 0.8, "offset_s": 600})` sets the load,
and where in a trace the episode begins.
"""

INFO = {
    "elapsed_s": "simulated seconds since the question that the step answered",
    "discount": "weight of the value of what follows, `exp(-elapsed_s / tau_s)`",
    "reward_terms": "every term of the table above by name, undiscounted, unweighted",
    "num_invalid_actions": "illegal actions of the episode so far",
    "action_mask": "the legal actions, bool, one per action; of a `MultiDiscrete` one per choice, "
    "dimension after dimension; not for `action='box'`",
    "privileged": "with a baseline, for a critic alone, float32 of shape (3,), not scaled: the "
    "shadow's requests without first token, its tokens sent and not done, its busy instances; the "
    "policy must not see it",
}

INVALID_ACTIONS = """
Under `invalid_action="remap"` an index that the mask forbids becomes the k-th legal action, k =
index modulo the number of legal actions, and is counted: learners without masks, and checkers, can
play. Under `"error"` it is refused and nothing changes. What lies outside the action space is
refused under both. `env.unwrapped.action_masks()` gives sb3-contrib the mask. Windows are always
all legal; masks matter where ranks are chosen.
"""

SEEDS = """
Environment i of a vector with `reset(seed=s)` has the seed `s + i`. Everything that episode k of it
draws (workload, load, arrivals, lengths, warm-up, luck) is addressed by one hash of seed and k:
episodes are the same bytes alone or in a batch, in any shell, autoreset mode and number of threads.
A reset without a seed goes on to the next episode. By convention seeds 0 to 9999 are for training,
10000 to 10099 for choosing among checkpoints, those from 20000 on for tests.
"""

SHELLS = """
| shell | made by | at the end of an episode |
| --- | --- | --- |
| single | `gym.make(id, …)` | `step` is refused until `reset` |
| vector, `NEXT_STEP` | `gym.make_vec(id, num_envs, …)` | the next step resets it: its action is ignored, reward and elapsed time are 0 |
| vector, `SAME_STEP` | `autoreset_mode="SameStep"` | reset at once; `infos["final_obs"]` and `infos["final_info"]` hold the end |
| vector, `DISABLED` | `autoreset_mode="Disabled"` | `reset(options={"reset_mask": …})` resets some |
| Stable-Baselines3 | `SB3SchedulingEnv(id, num_envs, …)` | reset at once; `terminal_observation` and `TimeLimit.truncated` in its `infos` |

`infos` of a vector is one dictionary of arrays. All shells run the same compiled batch, and
`num_threads=2` shares it among two threads.

`state()` of a shell is a dictionary of arrays and plain values (`np.savez` keeps it without pickle)
from which `restore(state)` of another with the same configuration goes on: every later step gives
the same bytes, in another process too. It returns what is seen there: for a `VecEnv` the
observations, else observations and infos. A state of another configuration or another layout of the
arrays is refused, and the message names what differs.
"""  # noqa: E501

PARTS = """
Cluster, workload, arrivals, timing and scheduler are names of presets (`sbs-gym list`), objects, or
mappings of all fields, or of some beside the preset that has the others:
`timing={"preset": "linear", "fixed_s": 0.05}`, `cluster={"preset": "h800_3p1d", "num_prefill": 4}`,
and a trace of yours `workload={"preset": "trace", "path": "FILE.csv"}`. A scheduler's name also
takes changes, `scheduler="sbs:placement=jsq"`.
"""

VERSIONS = "- v0: first version."
