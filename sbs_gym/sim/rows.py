"""The world as compiled code sees it: one machine word per array.

A numba array is a structure of seven words or more, copied at every call that is not inlined, and
numba counts references to it at nearly every use, atomically. Measured on the loop, that took most
of a run and of the compilation. Inside one call from Python the caller keeps the arrays alive, so
the compiled loop works on `Rows`: bare addresses that can be indexed, and nothing else. They stand
in one block per world, written once, a `RowsWorld`, whose address is all that functions hand on:
handing on the addresses one by one took a quarter of the compilation, and taking a World apart
costs a call from Python as much as a whole step of an environment. As plain Python
(NUMBA_DISABLE_JIT=1) the same code indexes the arrays themselves.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import intrinsic, register_model
from numba.np.arrayobj import make_array

from sbs_gym.jit import PURE_PYTHON, compiled
from sbs_gym.sim.state import World
from sbs_gym.sim.world import example_world

# These stay arrays, for they have two dimensions; only their owner is dropped. numba still counts a
# reference to them at every use, so the loop hands them on and reads them nowhere else.
_STAY_ARRAYS = ("table", "decode_table")
CACHE_LINE = 64  # bytes


def _digest(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()[:12]


class Rows(types.Type):
    """The numba type of a bare address of records or numbers of one dtype."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        # A short name: it becomes part of the symbol of every function that takes the world.
        super().__init__(name=f"Rows{_digest(dtype)}")


@register_model(Rows)
class _RowsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Rows) -> None:
        super().__init__(manager, frontend_type, ir.IntType(8).as_pointer())


@infer_global(operator.getitem)
class _GetRow(AbstractTemplate):
    def generic(self, args: Any, kwargs: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], Rows) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _SetRow(AbstractTemplate):
    def generic(self, args: Any, kwargs: Any) -> Any:
        if len(args) == 3 and isinstance(args[0], Rows) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


def _row_pointer(context: Any, builder: Any, rows: Rows, base: Any, index: Any) -> Any:
    if isinstance(rows.dtype, types.Record):
        size = rows.dtype.size
    else:
        size = context.get_abi_sizeof(context.get_data_type(rows.dtype))
    offset = builder.mul(index, ir.Constant(index.type, size))
    pointer = builder.gep(base, [offset])
    return builder.bitcast(pointer, context.get_data_type(rows.dtype).as_pointer())


@lower_builtin(operator.getitem, Rows, types.intp)
def _lower_get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = _row_pointer(context, builder, sig.args[0], *args)
    if isinstance(sig.args[0].dtype, types.Record):
        return builder.bitcast(pointer, context.get_value_type(sig.args[0].dtype))
    return context.unpack_value(builder, sig.args[0].dtype, pointer)


@lower_builtin(operator.setitem, Rows, types.intp, types.Any)
def _lower_set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    base, index, value = args
    pointer = _row_pointer(context, builder, sig.args[0], base, index)
    context.pack_value(builder, sig.args[0].dtype, value, pointer)
    return context.get_dummy_value()


class RowsWorld(types.Type):
    """The numba type of a World of rows: the address of a block with one entry per field."""

    def __init__(self, fields: tuple[tuple[str, types.Type], ...]) -> None:
        self.fields = dict(fields)
        super().__init__(name=f"World{_digest(fields)}")

    def layout(self, context: Any) -> ir.LiteralStructType:
        """Return the block's type."""
        return ir.LiteralStructType([context.get_value_type(kind) for kind in self.fields.values()])


@register_model(RowsWorld)
class _RowsWorldModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: RowsWorld) -> None:
        super().__init__(manager, frontend_type, ir.IntType(8).as_pointer())


@infer_getattr
class _FieldOfWorld(AttributeTemplate):
    key = RowsWorld

    def generic_resolve(self, world: RowsWorld, name: str) -> types.Type | None:
        return world.fields.get(name)


@lower_getattr_generic(RowsWorld)
def _lower_field(context: Any, builder: Any, world: RowsWorld, value: Any, name: str) -> Any:
    block = builder.bitcast(value, world.layout(context).as_pointer())
    index = list(world.fields).index(name)
    field = builder.load(cgutils.gep_inbounds(builder, block, 0, index))
    # The addresses stay as they are for the whole call: read once, kept in a register.
    field.set_metadata("invariant.load", builder.module.add_metadata([]))
    return field


def _fields(world: Any) -> tuple[tuple[str, types.Type], ...]:
    """Return name and type of every field of a World as compiled code sees it."""
    return tuple(
        (name, Rows(kind.dtype) if isinstance(kind, types.Array) and not stays else kind)
        for name, kind in zip(world.instance_class._fields, world.types, strict=True)
        for stays in [name in _STAY_ARRAYS]
    )


@functools.cache
def _rows_type() -> RowsWorld:
    """Return the type of every world; that of an example, for all have the same fields."""
    return RowsWorld(_fields(typeof(example_world())))


@intrinsic
def _write_block(_typing_context: Any, world: Any, blocks: Any, e: Any) -> Any:
    kinds = [kind for _, kind in _fields(world)]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        block = _address(context, builder, sig.args[1], args[1], args[2])
        block = builder.bitcast(block, _rows_type().layout(context).as_pointer())
        for place, (given, wanted) in enumerate(zip(world.types, kinds, strict=True)):
            value = builder.extract_value(args[0], place)
            if isinstance(given, types.Array):
                view = make_array(given)(context, builder, value)
                if isinstance(wanted, Rows):
                    value = builder.bitcast(view.data, ir.IntType(8).as_pointer())
                else:
                    view.meminfo = cgutils.get_null_value(view.meminfo.type)
                    view.parent = cgutils.get_null_value(view.parent.type)
                    value = view._getvalue()
            builder.store(value, cgutils.gep_inbounds(builder, block, 0, place))
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
    first = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.gep(first, [builder.mul(e, stride)])


@compiled
def _write(world, blocks, e):  # type: ignore[no-untyped-def]
    _write_block(world, blocks, e)


def _words() -> int:
    """Return the words of a block: one for an address, seven or nine for an array."""
    return sum(
        5 + 2 * kind.ndim if isinstance(kind, types.Array) else 1
        for kind in _rows_type().fields.values()
    )


def blocks_of(worlds: Sequence[World]) -> Any:
    """Return what compiled code takes for a batch of worlds; the caller keeps the worlds alive.

    One row per world with the addresses of its arrays, int64; as plain Python, the worlds.
    """
    if PURE_PYTHON:
        return list(worlds)
    blocks = np.zeros((len(worlds), _words()), dtype=np.int64)
    for e, world in enumerate(worlds):
        _write(world, blocks, e)
    return blocks


def write_block(blocks: Any, e: int, world: World) -> None:
    """Let entry `e` of `blocks` stand for another world."""
    if PURE_PYTHON:
        blocks[e] = world
    else:
        _write(world, blocks, e)


@intrinsic
def _fetch(_typing_context: Any, rows: Any, num_lines: Any) -> Any:
    """Ask the cache for the lines behind an address."""

    def ask(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base = builder.bitcast(args[0], ir.IntType(8).as_pointer())
        with cgutils.for_range(builder, args[1]) as loop:
            offset = builder.mul(loop.index, ir.Constant(loop.index.type, CACHE_LINE))
            _prefetch(builder, builder.gep(base, [offset]))
        return context.get_dummy_value()

    return types.none(rows, types.intp), ask


@intrinsic
def _fetch_word(_typing_context: Any, rows: Any, index: Any) -> Any:
    """Ask the cache for the line of a number in an array."""

    def ask(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _row_pointer(context, builder, sig.args[0], *args)
        _prefetch(builder, builder.bitcast(pointer, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.none(rows, types.intp), ask


def _prefetch(builder: Any, pointer: Any) -> None:
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), word, word, word])
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
