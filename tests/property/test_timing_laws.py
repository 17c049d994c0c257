"""Laws of every timing: more never takes less, and one pass never more than its two halves."""

import dataclasses
from pathlib import Path

import numpy as np
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sbs_gym.config.timing import LinearTiming, timing_from_mapping
from sbs_gym.timing.decode import build_decode_timing, decode_step_s
from sbs_gym.timing.model import build_timing, prefill_pass_s

CONF = Path(__file__).parents[2] / "conf" / "timing"
CHUNK = 3072
THRESHOLD = 1024


def _model(name):
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text("utf-8"))
    if name == "table":
        content["path"] = "example_passes.csv"
    return build_timing(timing_from_mapping(content), dp=8, ep=8, chunk_tokens=CHUNK)


MODELS = {name: _model(name) for name in ("roofline", "table", "linear", "constant")}
ROOFLINE = MODELS["roofline"]
_ALONE, _OVERLAPPED = 1 << 30, 1


def _decode_model(config, q_tokens=1):
    return build_decode_timing(config, dp=8, ep=8, q_tokens=q_tokens, max_requests=256)


DECODE_MODELS = {
    "linear": _decode_model(MODELS["linear"].config),
    "constant": _decode_model(MODELS["constant"].config),
    **{
        f"{regime} {q}": _decode_model(
            dataclasses.replace(ROOFLINE.config, decode_overlap_min_tokens=least), q
        )
        for regime, least in (("alone", _ALONE), ("overlapped", _OVERLAPPED))
        for q in (1, 2)
    },
}
decode_names = st.sampled_from(sorted(DECODE_MODELS))
batches = st.lists(st.integers(0, 255), min_size=8, max_size=8)
caches = st.lists(st.floats(0.0, 5e5), min_size=8, max_size=8)
small_loads = st.lists(st.integers(0, THRESHOLD - 1), min_size=8, max_size=8)
large_loads = st.lists(st.integers(THRESHOLD, CHUNK), min_size=8, max_size=8)
contexts = st.lists(st.integers(0, 131072), min_size=8, max_size=8)
skews = st.floats(1.0, 4.0)
names = st.sampled_from(sorted(MODELS))
fast = settings(max_examples=60, deadline=None)


def seconds(model, tokens, context, skew):
    new, past = np.array(tokens, dtype=np.int64), np.array(context, dtype=np.int64)
    pairs = new * (2 * past + new)
    return prefill_pass_s(model.coefficients[0], model.table, new, pairs, skew)


@fast
@given(names, small_loads | large_loads, contexts, skews, st.integers(0, 7))
def test_one_more_token_takes_no_less_within_a_regime(name, tokens, context, skew, rank):
    more = list(tokens)
    limit = THRESHOLD - 1 if max(tokens) < THRESHOLD else CHUNK
    more[rank] = min(tokens[rank] + 1, limit)
    model = MODELS[name]
    if any(tokens):
        assert seconds(model, more, context, skew) >= seconds(model, tokens, context, skew)


@fast
@given(large_loads, contexts, skews)
def test_roofline_grows_with_tokens_context_and_skew_within_overlap(tokens, context, skew):
    before = seconds(ROOFLINE, tokens, context, skew)
    more = [min(n + 64, CHUNK) for n in tokens]
    if more != tokens:
        assert seconds(ROOFLINE, more, context, skew) > before
    assert seconds(ROOFLINE, tokens, [c + 1000 for c in context], skew) > before
    assert seconds(ROOFLINE, tokens, context, skew + 0.1) > before


@fast
@given(small_loads, contexts, skews)
def test_roofline_grows_with_context_and_skew_without_overlap(tokens, context, skew):
    if not any(tokens):
        return
    before = seconds(ROOFLINE, tokens, context, skew)
    assert seconds(ROOFLINE, tokens, [c + 1000 for c in context], skew) > before
    assert seconds(ROOFLINE, tokens, context, skew + 0.1) > before


@fast
@given(names, small_loads, small_loads, contexts, contexts, skews)
def test_merging_two_small_passes_never_takes_longer_than_both(name, a, b, ctx_a, ctx_b, skew):
    model = MODELS[name]
    a, b = [n // 2 for n in a], [n // 2 for n in b]
    _assert_merged_is_no_longer(model, a, b, ctx_a, ctx_b, skew)


@fast
@given(names, contexts, contexts, skews, st.data())
def test_merging_two_overlapped_passes_never_takes_longer_than_both(name, ctx_a, ctx_b, skew, data):
    model = MODELS[name]
    half = st.lists(st.integers(THRESHOLD, CHUNK // 2), min_size=8, max_size=8)
    _assert_merged_is_no_longer(model, data.draw(half), data.draw(half), ctx_a, ctx_b, skew)


def _assert_merged_is_no_longer(model, a, b, ctx_a, ctx_b, skew):
    first, second = np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)
    pairs = [
        tokens * (2 * np.array(context, dtype=np.int64) + tokens)
        for tokens, context in ((first, ctx_a), (second, ctx_b))
    ]
    record, table = model.coefficients[0], model.table
    apart = sum(
        prefill_pass_s(record, table, tokens, p, skew)
        for tokens, p in zip((first, second), pairs, strict=True)
    )
    merged = prefill_pass_s(record, table, first + second, pairs[0] + pairs[1], skew)
    assert merged <= apart * (1.0 + 1e-12)


@fast
@given(small_loads | large_loads, contexts, skews, st.permutations(range(8)))
def test_relabelling_ranks_changes_nothing(tokens, context, skew, order):
    for model in MODELS.values():
        shuffled = [tokens[i] for i in order], [context[i] for i in order]
        assert seconds(model, *shuffled, skew) == seconds(model, tokens, context, skew)


@fast
@given(st.floats(0.0, 30.0), st.floats(1e-6, 0.5), small_loads)
def test_doubling_the_linear_durations_doubles_the_pass_exactly(fixed_s, per_token_s, tokens):
    once = LinearTiming(fixed_s=fixed_s, per_token_s=per_token_s)
    twice = LinearTiming(fixed_s=2.0 * fixed_s, per_token_s=2.0 * per_token_s)
    models = [build_timing(c, dp=8, ep=8, chunk_tokens=CHUNK) for c in (once, twice)]
    assert seconds(models[1], tokens, [0] * 8, 1.0) == 2.0 * seconds(
        models[0], tokens, [0] * 8, 1.0
    )


def step_seconds(model, batch, kv, skew):
    requests, context = np.array(batch, dtype=np.int64), np.array(kv, dtype=np.float64)
    return decode_step_s(model.coefficients[0], model.table, requests, context, skew)


@fast
@given(decode_names, batches, caches, skews, st.integers(0, 7))
def test_a_step_takes_no_less_with_more_requests_context_or_skew(name, batch, kv, skew, rank):
    model = DECODE_MODELS[name]
    before = step_seconds(model, batch, kv, skew)
    more, longer = list(batch), list(kv)
    more[rank] += 1
    longer[rank] += 1000.0
    assert step_seconds(model, more, kv, skew) >= before
    assert step_seconds(model, batch, longer, skew) >= before
    assert step_seconds(model, batch, kv, skew + 0.1) >= before


@fast
@given(batches, caches, skews, st.permutations(range(8)))
def test_relabelling_ranks_changes_no_step(batch, kv, skew, order):
    for model in DECODE_MODELS.values():
        shuffled = [batch[i] for i in order], [kv[i] for i in order]
        assert step_seconds(model, *shuffled, skew) == step_seconds(model, batch, kv, skew)


@fast
@given(decode_names, batches, batches, caches, caches, skews)
def test_merging_two_steps_never_takes_longer_than_both(name, a, b, kv_a, kv_b, skew):
    model = DECODE_MODELS[name]
    a, b = [n // 2 for n in a], [n // 2 for n in b]
    merged = step_seconds(
        model, np.add(a, b), np.where(np.add(a, b) > 0, np.add(kv_a, kv_b), 0.0), skew
    )
    apart = step_seconds(model, a, kv_a, skew) + step_seconds(model, b, kv_b, skew)
    if any(a) and any(b):
        busy = all((x > 0) == (y > 0) for x, y in zip(a, b, strict=True))
        assert not busy or merged <= apart * (1.0 + 1e-12)


@fast
@given(st.floats(0.0, 1.0), st.floats(0.0, 1e-3), st.floats(0.0, 1e-6), batches, caches)
def test_doubling_the_linear_durations_doubles_the_step_exactly(fixed, request, token, batch, kv):
    once, twice = (
        _decode_model(
            LinearTiming(
                decode_fixed_s=k * fixed,
                decode_per_request_s=k * request,
                decode_per_kv_token_s=k * token,
            )
        )
        for k in (1.0, 2.0)
    )
    assert step_seconds(twice, batch, kv, 1.0) == 2.0 * step_seconds(once, batch, kv, 1.0)
