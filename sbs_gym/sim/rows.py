"""The world as compiled code sees it: one machine word per array.

A numba array is a structure of seven words or more, copied at every call that is not inlined, and
numba counts references to it at nearly every use, atomically. Measured on the loop, that took most
of a run and of the compilation. Inside one call from Python the caller keeps the arrays alive, so
the compiled loop works on `Rows`: bare addresses that can be indexed, and nothing else. As plain
Python (NUMBA_DISABLE_JIT=1) the same code indexes the arrays themselves.
"""

from __future__ import annotations

import hashlib
import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, register_model
from numba.np.arrayobj import make_array

from sbs_gym.jit import PURE_PYTHON

# These stay arrays, because the timing model takes arrays; only their owner is dropped.
_STAY_ARRAYS = (
    "table",
    "scratch_tokens",
    "scratch_pairs",
    "decode_table",
    "scratch_batch",
    "scratch_kv",
)


class Rows(types.Type):
    """The numba type of a bare address of records or numbers of one dtype."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        # A short name: it becomes part of the symbol of every function that takes the world.
        super().__init__(name=f"Rows{hashlib.sha256(str(dtype).encode()).hexdigest()[:12]}")


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


@intrinsic
def _as_rows(_typing_context: Any, world: Any) -> Any:
    names = world.instance_class._fields
    kinds = [
        Rows(kind.dtype) if isinstance(kind, types.Array) and name not in _STAY_ARRAYS else kind
        for name, kind in zip(names, world.types, strict=True)
    ]
    result_type = types.NamedTuple(kinds, world.instance_class)  # type: ignore[attr-defined]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
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
            values.append(value)
        return context.make_tuple(builder, result_type, values)

    return result_type(world), build


def _as_it_is(world: Any) -> Any:
    return world


as_rows = _as_it_is if PURE_PYTHON else _as_rows
