"""Arrays over the bytes of messages."""

import math
import sys
import weakref
from typing import Any, TypeGuard

import numpy as np

from memlane._schemas import Field, dtype_of, tail_of


class _Part:
    """Part of the memory of its owner, for arrays: it is no buffer, so that an array of it that was made read-only
    stays so."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Any, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__array_interface__ = interface


def over(owner: Any, address: int, code: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The array at an address that `owner` keeps."""
    interface = {
        "version": 3,
        "typestr": np.dtype(code).str,
        "shape": shape,
        "strides": strides,
        "data": (address, False),
    }
    return np.asarray(_Part(owner, interface))


def record(memory: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The record, or the elements, at the start of some bytes."""
    base, shape = dtype.subdtype or (dtype, ())
    if dtype.itemsize == 0:
        return np.empty(shape, base)
    return memory[: math.prod(shape) * base.itemsize].view(base).reshape(shape)


def flat(data: Any) -> memoryview:
    """The bytes of whatever has some, one after the other."""
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def copy_to(memory: np.ndarray, data: Any) -> None:
    """Fill `memory` with what has as many elements of the same type."""
    np.copyto(memory, np.asarray(data).reshape(memory.shape), casting="equiv")


def as_record(data: Any, fields: tuple[Field, ...]) -> tuple[np.ndarray, int]:
    """`data` as a record of what is described, and the elements of its flexible tail."""
    tail, given = tail_of(fields), getattr(data, "dtype", None)
    count = 0
    if tail is not None:
        has = given if tail else np.dtype(("u1", np.shape(data)))
        for name in tail.split(".") if tail else ():
            has = has.fields[name][0] if has is not None and has.fields and name in has.fields else None
        if has is None or not has.shape:
            raise TypeError(
                f"a record with a flexible tail '{tail}' is an array of a dtype that has as many elements there"
            )
        count = has.shape[0]
    dtype = dtype_of(fields, count)
    if given is not None and tail != "" and not np.can_cast(given, dtype, "equiv"):
        raise TypeError(f"the records of this channel are {dtype}, not {given}")
    return np.asarray(data, dtype.base), count


class LoanArray(np.ndarray):
    """The array of a loan, and every view that NumPy makes of it: known, so that none can be written once it is
    sent."""

    # By its address, as arrays have no hash: the view, for as long as it lives.
    _views: "dict[int, weakref.ref[LoanArray]] | None" = None

    def __array_finalize__(self, origin: Any) -> None:
        views = getattr(origin, "_views", None)
        if views is not None:
            self._views = views
            views[id(self)] = weakref.ref(self)
            # Not by a callback: what a signal handler raises in one is lost.
            if len(views) % 64 == 0:
                for key, view in list(views.items()):
                    if view() is None and views.get(key) is view:
                        del views[key]

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        """What is computed from it is an array like any other."""
        return array[()] if return_scalar else np.asarray(array)

    def __dlpack__(self, **options: Any) -> Any:
        part = getattr(self.base, "base", None)
        if not isinstance(part, _Part):
            raise BufferError("part of a loan's array is no tensor of its own: pass the loan, or copy it")
        return part.owner.__dlpack__(**options)

    @property
    def shared_with_others(self) -> bool:
        """Whether there are arrays of the same memory that are not known, as numpy.asarray makes them."""
        return _references(self) > _ALONE

    def __deepcopy__(self, memo: Any) -> Any:
        return np.array(self, copy=True, subok=False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return np.array(self, copy=True, subok=False).__reduce_ex__(protocol)


class LoanRecords(LoanArray):
    """The same of records: one of them is an array without dimensions, as scalars would be views that nobody knows."""

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        if isinstance(item, np.void):
            return super().__getitem__((*key, ...) if isinstance(key, tuple) else (key, ...))
        return item

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))


def lend(plain: np.ndarray) -> LoanArray:
    """The array to be given out of one over the loan's memory."""
    array = plain.view(LoanArray if plain.dtype.fields is None else LoanRecords)
    array._views = {}
    array._views[id(array)] = weakref.ref(array)
    return array


def _whole(array: np.ndarray) -> Any:
    """The array that owns the memory, or was made of it."""
    whole: Any = array
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return whole


def _references(array: np.ndarray) -> int:
    """How many refer to what `array` is a view of, and a few more that are the same each time."""
    return sys.getrefcount(_whole(array))


_ALONE = _references(lend(np.frombuffer(bytearray(1), "u1")))


def revoke(array: LoanArray) -> None:
    """Make all that is left of a loan's array read-only, and what it is a view of: else that could be undone."""
    whole: Any = array
    while isinstance(whole, np.ndarray):
        whole.flags.writeable = False
        whole = whole.base
    views = array._views or {}
    # Until there are none: another thread may make some meanwhile, of one that was not read-only yet.
    while writable := [view for view in (known() for known in list(views.values())) if _can_write(view)]:
        for view in writable:
            view.flags.writeable = False


def _can_write(view: LoanArray | None) -> TypeGuard[LoanArray]:
    """Whether it is there, writable, and no copy that somebody has made."""
    return view is not None and view.flags.writeable and not _whole(view).flags.owndata
