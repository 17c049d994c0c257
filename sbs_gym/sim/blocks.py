"""Blocks: where the arrays of a world are, written for compiled code; see sim/rows.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from sbs_gym.jit import PURE_PYTHON, compiled
from sbs_gym.sim.rows import RowsWorld, kinds_of, row_pointer
from sbs_gym.sim.state import World
from sbs_gym.sim.world import example_world

CACHE_LINE = 64  # bytes
_BYTES = ir.IntType(8).as_pointer()
_WORD = ir.IntType(64)


@functools.cache
def _rows_type() -> RowsWorld:
    """Return the type of every world; that of an example, for all have the same fields."""
    return RowsWorld(kinds_of(typeof(example_world())))


def blocks_of(worlds: Sequence[World], memory: NDArray[np.uint8] | None = None) -> Any:
    """Return what compiled code takes for a batch of worlds; the caller keeps the worlds alive.

    One row of words per world, int64; as plain Python, the worlds.

    Args:
        worlds: At least one.
        memory: Shape (len(worlds), size): rows in which each has its arrays, all at the same
            places; None if they lie anywhere.
    """
    if PURE_PYTHON:
        return list(worlds)
    kind = _rows_type()
    blocks = np.zeros((len(worlds), kind.num_words), dtype=np.int64)
    layouts = blocks.ctypes.data + blocks.itemsize * kind.layout_at
    if memory is None:
        blocks[:, kind.LAYOUT] = layouts + blocks.strides[0] * np.arange(len(worlds))
    else:
        blocks[:, kind.BASE] = memory.ctypes.data + memory.strides[0] * np.arange(len(worlds))
        blocks[:, kind.LAYOUT] = layouts  # that of the first holds for all
    for e, world in enumerate(worlds):
        write_block(blocks, e, world)
    return blocks


def write_block(blocks: Any, e: int, world: World) -> None:
    """Let entry `e` of `blocks` stand for another world, which lies where the one before lay."""
    if PURE_PYTHON:
        blocks[e] = world
        return
    kind = _rows_type()
    _write(world, blocks, e)
    blocks[e, kind.layout_at :] -= blocks[e, kind.BASE]


@compiled
def _write(world, blocks, e):  # type: ignore[no-untyped-def]
    _write_words(world, blocks, e)


@intrinsic
def _write_words(_typing_context: Any, world: Any, blocks: Any, e: Any) -> Any:
    """Write the address of every field, and the shape of tables behind it."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        block = _address(context, builder, sig.args[1], args[1], args[2])
        block = builder.bitcast(block, _WORD.as_pointer())
        for place, (name, given) in enumerate(
            zip(world.instance_class._fields, world.types, strict=True)
        ):
            value = builder.extract_value(args[0], place)
            words = [value]
            if isinstance(given, types.Array):
                array = make_array(given)(context, builder, value)
                words = [array.data]
                if given.ndim == 2:
                    words += cgutils.unpack_tuple(builder, array.shape, 2)
            for number, word in enumerate(words, start=_rows_type().word_of(name)):
                at = builder.gep(block, [ir.Constant(_WORD, number)])
                is_address = isinstance(word.type, ir.PointerType)
                builder.store(builder.ptrtoint(word, _WORD) if is_address else word, at)
        return context.get_dummy_value()

    return types.none(world, blocks, types.intp), build


@intrinsic
def _rows_at(_typing_context: Any, blocks: Any, e: Any) -> Any:
    def address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _address(context, builder, sig.args[0], *args)

    return _rows_type()(blocks, types.intp), address


def _address(context: Any, builder: Any, kind: Any, blocks: Any, e: Any) -> Any:
    """Return where the block of world `e` begins."""
    array = make_array(kind)(context, builder, blocks)
    stride = cgutils.unpack_tuple(builder, array.strides, 2)[0]
    first = builder.bitcast(array.data, _BYTES)
    return builder.gep(first, [builder.mul(e, stride)])


@intrinsic
def _fetch(_typing_context: Any, rows: Any, num_lines: Any) -> Any:
    """Ask the cache for the lines behind an address."""

    def ask(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base = builder.bitcast(args[0], _BYTES)
        with cgutils.for_range(builder, args[1]) as loop:
            offset = builder.mul(loop.index, ir.Constant(loop.index.type, CACHE_LINE))
            _prefetch(builder, builder.gep(base, [offset]))
        return context.get_dummy_value()

    return types.none(rows, types.intp), ask


@intrinsic
def _fetch_word(_typing_context: Any, rows: Any, index: Any) -> Any:
    """Ask the cache for the line of a number in an array."""

    def ask(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = row_pointer(context, builder, sig.args[0], *args)
        _prefetch(builder, builder.bitcast(pointer, _BYTES))
        return context.get_dummy_value()

    return types.none(rows, types.intp), ask


def _prefetch(builder: Any, pointer: Any) -> None:
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, word, word, word])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    will_write, stays, is_data = (ir.Constant(word, n) for n in (1, 3, 1))
    builder.call(prefetch, [pointer, will_write, stays, is_data])


def _fetch_no_word(rows: Any, index: int) -> None:
    pass


fetch_word = _fetch_no_word if PURE_PYTHON else _fetch_word


def _fetch_nothing(rows: Any, num_lines: int) -> None:
    pass


fetch = _fetch_nothing if PURE_PYTHON else _fetch


def _world_itself(worlds: Any, e: int) -> Any:
    return worlds[e]


rows_at = _world_itself if PURE_PYTHON else _rows_at
