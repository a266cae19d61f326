"""Named memory, and records in it."""

import weakref
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from memlane import _memlane
from memlane._arrays import record
from memlane._memlane import Condition, Mutex
from memlane._schemas import dtype_of, fields_of, tail_of


class SharedMemory(_memlane.Memory):
    """Named memory; see `__init__.pyi`."""

    # Not kept: it keeps this object.
    _buf: "weakref.ref[memoryview] | None" = None

    @property
    def buf(self) -> memoryview | None:
        if self.closed:
            return None
        buf = self._buf() if self._buf else None
        if buf is None:
            buf = memoryview(self)
            self._buf = weakref.ref(buf)
        return buf

    def close(self) -> None:
        buf = self._buf() if self._buf else None
        if buf is not None:
            buf.release()
        self._buf = None
        super().close()

    def unlink(self) -> None:
        _memlane.remove(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"<memlane.SharedMemory '{self.name}', {self.size} bytes{', closed' if self.closed else ''}>"


class Segment:
    """A record in shared memory; see `__init__.pyi`."""

    def __init__(
        self,
        name: str,
        dtype: npt.DTypeLike | None = None,
        *,
        create: bool = False,
        value: Any = None,
        tail: int = 0,
        keep: bool = False,
        mode: int = 0o600,
    ) -> None:
        if create:
            if dtype is None:
                raise ValueError("to create a segment takes its dtype")
            fields = tuple(fields_of(dtype))
            if tail and tail_of(fields) is None:
                raise ValueError(
                    f"{np.dtype(dtype)} has no flexible tail: its last field would be an array of shape (0,)"
                )
            self._dtype = dtype_of(fields, tail)
            filled = b"" if value is None else np.asarray(value, self._dtype.base).tobytes()
            self._memory = _memlane.Memory.create_as(name, fields, tail, filled, keep, mode)
        else:
            theirs, tail = _memlane.described(name, "")
            fields = theirs if dtype is None else tuple(fields_of(dtype, theirs))
            self._memory = _memlane.Memory.open_as(name, fields)
            self._dtype = dtype_of(fields, tail)
        self._fields = {path: (kind, offset) for path, kind, offset, _ in fields}

    @property
    def name(self) -> str:
        return self._memory.name

    @property
    def origin(self) -> str:
        return self._memory.origin

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def array(self) -> np.ndarray:
        memory = self._memory.array()
        memory.flags.writeable = False
        return record(memory, self._dtype)

    def _at(self, path: str, kind: str) -> int:
        found, offset = self._fields.get(path, ("nothing", 0))
        if found != kind:
            there = [f"'{path}'" for path, (its, _) in self._fields.items() if its == kind]
            raise KeyError(
                f"'{self.name}' has {found} at '{path}', and no {kind}; it has one at {', '.join(there) or 'none'}"
            )
        return offset

    def mutex(self, field: str) -> Mutex:
        dtype = self._dtype

        def guarded(memory: _memlane.Memory) -> np.ndarray:
            array = record(memory.array(), dtype)
            for name in field.split(".") if field else ():
                array = array[name]
            return array["data"]

        return _memlane.guarding(self._memory, self._at(field, "mutex"), guarded)

    def condition(self, field: str, mutex: Mutex) -> Condition:
        return Condition(self, self._at(field, "condvar"), mutex)  # type: ignore[arg-type]

    def close(self) -> None:
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memlane.Segment '{self.name}'{', closed' if self._memory.closed else ''}>"


def schema(name: str, path: str = "") -> np.dtype[Any]:
    """The dtype of what is in an object, whoever made it; see `__init__.pyi`."""
    fields, tail = _memlane.described(name, path)
    kinds = {kind for at, kind, *_ in fields if at == ""}
    if not path and kinds & {"channel", "service"}:
        return schema(name, "message")
    return dtype_of(fields, tail)
