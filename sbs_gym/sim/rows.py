"""The world as compiled code sees it: one machine word per array.

A numba array is a structure of seven words or more, copied at every call that is not inlined, and
numba counts references to it at nearly every use, atomically. Measured on the loop, that took most
of a run and of the compilation. Inside one call from Python the caller keeps the arrays alive, so
the compiled loop works on `Rows`: bare addresses that can be indexed, and nothing else, and on
`Table` where an array has two dimensions. A block of words per world says where they are, a
`RowsWorld`, whose address is all that functions hand on: handing on the addresses one by one took a
quarter of the compilation, and taking a World apart costs a call from Python as much as a whole
step of an environment. As plain Python (NUMBA_DISABLE_JIT=1) the same code indexes the arrays
themselves. sim/blocks.py writes the blocks.
"""

from __future__ import annotations

import hashlib
import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin, lower_getattr, lower_getattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import register_model

from sbs_gym.sim.state import OF_TIMING

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


def row_pointer(context: Any, builder: Any, rows: Rows, base: Any, index: Any) -> Any:
    """Return the address of row `index`, as a pointer to what stands there."""
    if isinstance(rows.dtype, types.Record):
        size = rows.dtype.size
    else:
        size = context.get_abi_sizeof(context.get_data_type(rows.dtype))
    offset = builder.mul(index, ir.Constant(index.type, size))
    pointer = builder.gep(base, [offset])
    return builder.bitcast(pointer, context.get_data_type(rows.dtype).as_pointer())


@lower_builtin(operator.getitem, Rows, types.intp)
def _lower_get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = row_pointer(context, builder, sig.args[0], *args)
    if isinstance(sig.args[0].dtype, types.Record):
        return builder.bitcast(pointer, context.get_value_type(sig.args[0].dtype))
    return context.unpack_value(builder, sig.args[0].dtype, pointer)


@lower_builtin(operator.setitem, Rows, types.intp, types.Any)
def _lower_set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    base, index, value = args
    pointer = row_pointer(context, builder, sig.args[0], base, index)
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
        if len(args) == 2 and isinstance(args[0], Table) and isinstance(args[1], types.BaseTuple):
            return signature(args[0].dtype, args[0], types.UniTuple(types.intp, 2))
        return None


@lower_builtin(operator.getitem, Table, types.UniTuple(types.intp, 2))
def _lower_cell(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    row, column = cgutils.unpack_tuple(builder, args[1], 2)
    place = builder.add(builder.mul(row, _header(builder, args[0], 2)), column)
    kind = context.get_data_type(sig.args[0].dtype).as_pointer()
    numbers = builder.bitcast(_header(builder, args[0], 0), kind)
    return context.unpack_value(builder, sig.args[0].dtype, builder.gep(numbers, [place]))


@infer_getattr
class _ShapeOfTable(AttributeTemplate):
    key = Table

    def resolve_shape(self, table: Table) -> types.Type:
        return types.UniTuple(types.intp, 2)


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
    """The numba type of a World of rows: the address of its block.

    The words of a block: an address, the base; the address of the layout; what the timing is made
    of, which has a place of its own; and a layout, how far from the base every other field begins.
    Worlds whose arrays lie alike share a layout, so that only two words of each have to be read.

    Attributes:
        fields: Type of every field by name.
        own: Word of each field that has a place of its own.
        layout: Place in the layout of every other field.
        layout_at: First word of the layout.
        num_words: Words of a block.
    """

    BASE, LAYOUT = 0, 1

    def __init__(self, fields: tuple[tuple[str, types.Type], ...]) -> None:
        self.fields = dict(fields)
        self.own: dict[str, int] = {}
        self.layout_at = 2
        for name in OF_TIMING:
            self.own[name] = self.layout_at
            self.layout_at += 3 if isinstance(self.fields[name], Table) else 1
        others = [name for name in self.fields if name not in self.own]
        self.layout = {name: place for place, name in enumerate(others)}
        self.num_words = self.layout_at + len(others)
        super().__init__(name=f"World{_digest(fields)}")

    def word_of(self, name: str) -> int:
        """Return the word of the block in which the field stands, or its distance from the base."""
        return self.own[name] if name in self.own else self.layout_at + self.layout[name]


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
def _lower_field(context: Any, builder: Any, world: RowsWorld, block: Any, name: str) -> Any:
    kind = context.get_value_type(world.fields[name])
    if name in world.own:
        place = _word(builder, block, world.own[name])
        if isinstance(world.fields[name], Table):
            return builder.bitcast(place, kind)
        return _read_word(builder, block, world.own[name], kind)
    base = _read_word(builder, block, world.BASE, _BYTES)
    layout = _read_word(builder, block, world.LAYOUT, _BYTES)
    distance = _read_word(builder, layout, world.layout[name], _WORD)
    return builder.bitcast(builder.gep(base, [distance]), kind)


def _word(builder: Any, words: Any, number: int) -> Any:
    return builder.gep(words, [ir.Constant(_WORD, number * (_WORD.width // 8))])


def _read_word(builder: Any, words: Any, number: int, kind: Any) -> Any:
    place = builder.bitcast(_word(builder, words, number), kind.as_pointer())
    return _never_changes(builder, builder.load(place))


def kinds_of(world: Any) -> tuple[tuple[str, types.Type], ...]:
    """Return name and type of every field of a World as compiled code sees it."""
    return tuple(
        (name, _kind_in_world(kind))
        for name, kind in zip(world.instance_class._fields, world.types, strict=True)
    )


def _kind_in_world(kind: types.Type) -> types.Type:
    if not isinstance(kind, types.Array):
        return kind
    return Rows(kind.dtype) if kind.ndim == 1 else Table(kind.dtype)
