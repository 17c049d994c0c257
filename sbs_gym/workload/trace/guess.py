"""What the columns of an unknown file may mean: words that a user can copy, never a reading."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sbs_gym.workload.trace.source import Record

_TIMES = "timestamp time ts t when arrival arrived arrival_timestamp arrival_time arrived_at"
_TIMES += " start_time started_at created_at request_time date datetime"
_PROMPTS = "prompt_tokens input_length input_len input_toks prompt_length prompt_len prompt_size"
_PROMPTS += " num_input_tokens num_prompt_tokens num_prefill_tokens context_tokens contexttokens"
_PROMPTS += " request_tokens prefill_tokens prompt input il p tokens"
_ANSWERS = "completion_tokens output_length output_len output_toks response_tokens token_size"
_ANSWERS += " generated_tokens generatedtokens num_output_tokens num_decode_tokens decode_tokens"
_ANSWERS += " answer_tokens answer_length completion output answer ol"
_LIKELY = {
    "arrived_at": _TIMES.split(),
    "input_tokens": ["input_tokens", *_PROMPTS.split()],
    "output_tokens": ["output_tokens", *_ANSWERS.split()],
}
_UNIT = re.compile(r"_(s|ms|us|ns)$")
_MOST_NAMED = 12


def words_for(first: Record) -> str:
    """Return the command line's words that map the columns of a file, as far as names tell."""
    found = _guessed(first, ())
    pairs = {"arrived_at": "<column>", "input_tokens": "<column>"} | found
    order = [meaning for meaning in _LIKELY if meaning in pairs]
    mapped = ", ".join(f"{meaning}: {_quoted(pairs[meaning])}" for meaning in order)
    unit = _unit(found.get("arrived_at", ""))
    return f"workload.format=generic 'workload.columns={{{mapped}}}'{unit}"


def unused_notes(first: Record, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for every column that could be mapped, and one for all others unused."""
    unused = [str(name) for name in first if name not in columns.values()]
    found = _guessed(dict.fromkeys(unused), columns)
    notes = [
        f"column {name!r} was not used; map it with "
        f"workload.columns={{{meaning}: {_quoted(name)}}}{_unit(name)}"
        for meaning, name in found.items()
    ]
    others = [name for name in unused if name not in found.values()]
    if others:
        named = ", ".join(repr(name) for name in others[:_MOST_NAMED])
        more = ", ..." if len(others) > _MOST_NAMED else ""
        notes.append(
            f"column {named} was not used" if len(others) == 1 else f"not used: {named}{more}"
        )
    return tuple(notes)


def _guessed(first: Mapping[str, object], known: Mapping[str, str] | tuple[()]) -> dict[str, str]:
    """Return meaning -> the likeliest column, for meanings that are not known yet."""
    found: dict[str, str] = {}
    for meaning in (meaning for meaning in _LIKELY if meaning not in known):
        places = {_plain(str(name), meaning): str(name) for name in first}
        likely = [places[name] for name in _LIKELY[meaning] if name in places]
        if likely:
            found[meaning] = likely[0]
    return found


def _plain(name: str, meaning: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return _UNIT.sub("", plain) if meaning == "arrived_at" else plain


def _unit(column: str) -> str:
    found = _UNIT.search(column.lower())
    return f" workload.time_unit={found[1]}" if found and found[1] != "s" else ""


def _quoted(column: str) -> str:
    return column if re.fullmatch(r"\w+|<column>", column) else f'"{column}"'
