"""The world as compiled code sees it: one machine word per array.

A numba array is a structure of seven words or more, copied at every call that is not inlined, and
numba counts references to it at nearly every use, atomically. Measured on the loop, that took most
of a run and of the compilation. Inside one call from Python the caller keeps the arrays alive, so
the compiled loop works on `Rows`: bare addresses that can be indexed, and nothing else, and on
`Table` where an array has two dimensions. They stand in one block per world, written once, a
`RowsWorld`, whose address is all that functions hand on: handing on the addresses one by one took a
quarter of the compilation, and taking a World apart costs a call from Python as much as a whole
step of an environment. As plain Python (NUMBA_DISABLE_JIT=1) the same code indexes the arrays
themselves.
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
from numba.core.imputils import lower_builtin, lower_getattr, lower_getattr_generic
from numba.core.types.containers import BaseTuple, UniTuple
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

CACHE_LINE = 64  # bytes
_BYTES = ir.IntType(8).as_pointer()
_WORD = ir.IntType(64)


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
        super().__init__(manager, frontend_type, _BYTES)


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


class Table(types.Type):
    """The numba type of an array of two dimensions, by rows: where its header stands in a block."""

    HEADER = ir.LiteralStructType([_BYTES, _WORD, _WORD])  # its numbers, how many rows and columns

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Table{dtype}")


@register_model(Table)
class _TableModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Table) -> None:
        super().__init__(manager, frontend_type, Table.HEADER.as_pointer())


@infer_global(operator.getitem)
class _GetCell(AbstractTemplate):
    def generic(self, args: Any, kwargs: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], Table) and isinstance(args[1], BaseTuple):
            return signature(args[0].dtype, args[0], UniTuple(types.intp, 2))
        return None


@lower_builtin(operator.getitem, Table, UniTuple(types.intp, 2))
def _lower_cell(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    row, column = cgutils.unpack_tuple(builder, args[1], 2)
    place = builder.add(builder.mul(row, _header(builder, args[0], 2)), column)
    kind = context.get_data_type(sig.args[0].dtype).as_pointer()
    numbers = builder.bitcast(_header(builder, args[0], 0), kind)
    return context.unpack_value(builder, sig.args[0].dtype, builder.gep(numbers, [place]))


@infer_getattr
class _ShapeOfTable(AttributeTemplate):
    key = Table

    def resolve_shape(self, table: Table) -> Any:
        return UniTuple(types.intp, 2)


@lower_getattr(Table, "shape")
def _lower_shape(context: Any, builder: Any, table: Table, value: Any) -> Any:
    return cgutils.pack_array(builder, [_header(builder, value, place) for place in (1, 2)])


def _header(builder: Any, table: Any, place: int) -> Any:
    return _never_changes(builder, builder.load(cgutils.gep_inbounds(builder, table, 0, place)))


def _never_changes(builder: Any, loaded: Any) -> Any:
    """Say that a word stays as it is for the whole call: read once, kept in a register."""
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


class RowsWorld(types.Type):
    """The numba type of a World of rows: the address of a block with one entry per field."""

    def __init__(self, fields: tuple[tuple[str, types.Type], ...]) -> None:
        self.fields = dict(fields)
        super().__init__(name=f"World{_digest(fields)}")

    def layout(self, context: Any) -> ir.LiteralStructType:
        """Return the block's type."""
        return ir.LiteralStructType(
            Table.HEADER if isinstance(kind, Table) else context.get_value_type(kind)
            for kind in self.fields.values()
        )


@register_model(RowsWorld)
class _RowsWorldModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: RowsWorld) -> None:
        super().__init__(manager, frontend_type, _BYTES)


@infer_getattr
class _FieldOfWorld(AttributeTemplate):
    key = RowsWorld

    def generic_resolve(self, world: RowsWorld, name: str) -> types.Type | None:
        return world.fields.get(name)


@lower_getattr_generic(RowsWorld)
def _lower_field(context: Any, builder: Any, world: RowsWorld, value: Any, name: str) -> Any:
    block = builder.bitcast(value, world.layout(context).as_pointer())
    entry = cgutils.gep_inbounds(builder, block, 0, list(world.fields).index(name))
    if isinstance(world.fields[name], Table):
        return entry
    return _never_changes(builder, builder.load(entry))


def _fields(world: Any) -> tuple[tuple[str, types.Type], ...]:
    """Return name and type of every field of a World as compiled code sees it."""
    return tuple(
        (name, _kind_in_world(kind))
        for name, kind in zip(world.instance_class._fields, world.types, strict=True)
    )


def _kind_in_world(kind: types.Type) -> types.Type:
    if not isinstance(kind, types.Array):
        return kind
    return Rows(kind.dtype) if kind.ndim == 1 else Table(kind.dtype)


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
                array = make_array(given)(context, builder, value)
                value = builder.bitcast(array.data, _BYTES)
                if isinstance(wanted, Table):
                    shape = cgutils.unpack_tuple(builder, array.shape, 2)
                    value = cgutils.make_anonymous_struct(builder, [value, *shape], Table.HEADER)
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
    first = builder.bitcast(array.data, _BYTES)
    return builder.gep(first, [builder.mul(e, stride)])


@compiled
def _write(world, blocks, e):  # type: ignore[no-untyped-def]
    _write_block(world, blocks, e)


def _words() -> int:
    """Return the words of a block: one for an address, three for a table."""
    return sum(3 if isinstance(kind, Table) else 1 for kind in _rows_type().fields.values())


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
        pointer = _row_pointer(context, builder, sig.args[0], *args)
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
