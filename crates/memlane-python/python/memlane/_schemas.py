"""Descriptions of types as NumPy dtypes, and back. docs/DESIGN.md, "An object's bytes", says what a description is."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Field = tuple[str, str, int, int]
"""Path, kind, offset and size of a part of what is described."""

TAIL = "flexible tail"
NAME = "memlane"

_SCALARS = {
    "bool": "?", "u8": "u1", "u16": "u2", "u32": "u4", "u64": "u8", "u128": "V16",
    "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "i128": "V16", "f32": "f4", "f64": "f8", "owner id": "u8",
}  # fmt: skip
_KINDS: dict[str, str] = {code: kind for kind, code in _SCALARS.items() if code != "V16" and kind != "owner id"}
_WORDS = {"condvar": "u4", "event": "u4"}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=256)
def dtype_of(fields: tuple[Field, ...], tail: int) -> np.dtype[Any]:
    """The dtype of what is described, with so many elements in its flexible tail."""
    parts = {path: (kind, offset, size) for path, kind, offset, size in fields}
    children: dict[str, list[str]] = {}
    for path in parts:
        parent, _, name = path.rpartition(".")
        if path:
            children.setdefault(parent, []).append(name)

    def build(path: str, size: int | None = None) -> np.dtype[Any]:
        kind, offset, own = parts[path]
        below = children.get(path, [])
        if kind == TAIL or kind.startswith("array of "):
            count = tail if kind == TAIL else int(kind.removeprefix("array of "))
            element = build(_join(path, "[]"), None if kind == TAIL or not count else own // count)
            base, shape = element.subdtype or (element, ())
            return np.dtype((base, (count, *shape)))
        if not below:
            code = _SCALARS.get(kind.removeprefix("atomic ")) or _WORDS.get(kind) or f"V{own}"
            return np.dtype(code, metadata={NAME: kind}) if kind in _WORDS else np.dtype(code)
        formats = [build(_join(path, name)) for name in below]
        offsets = [parts[_join(path, name)][1] - offset for name in below]
        if kind == "mutex":
            below, formats, offsets = ["mutex", *below], [np.dtype("u8"), *formats], [0, *offsets]
        end = max(at + format.itemsize for at, format in zip(offsets, formats, strict=True))
        layout = {"names": below, "formats": formats, "offsets": offsets, "itemsize": max(end, size or 0, own)}
        return np.dtype(layout, metadata={NAME: kind})  # type: ignore[call-overload, no-any-return]

    return build("") if fields else np.dtype(("u1", (tail,)))


def tail_of(fields: Sequence[Field]) -> str | None:
    """The path of the flexible tail, if there is one."""
    return next((path for path, kind, *_ in fields if kind == TAIL), None)


def name_of(dtype: np.dtype[Any]) -> str:
    """What the type is called in descriptions, if it has a name."""
    metadata: Mapping[str, Any] = dtype.metadata or {}
    return str(metadata.get(NAME, ""))


def fields_of(dtype: npt.DTypeLike, like: Sequence[Field] = ()) -> list[Field]:
    """The description of a dtype; structs without a name are called as they are in `like`. An array without elements at
    the very end is a flexible tail."""
    names = {path: kind for path, kind, *_ in like}
    fields: list[Field] = []

    def add(path: str, dtype: np.dtype[Any], offset: int, last: bool) -> None:
        kind = name_of(dtype)
        if dtype.subdtype:
            element, shape = dtype.subdtype
            inner = np.dtype((element, shape[1:])) if len(shape) > 1 else element
            is_tail = last and shape[0] == 0
            kind = TAIL if is_tail else f"array of {shape[0]}"
            fields.append((path, kind, offset, 0 if is_tail else dtype.itemsize))
            add(_join(path, "[]"), inner, offset, False)
        elif dtype.fields and kind == "mutex":
            data, at, *_ = dtype.fields["data"]
            fields.append((path, kind, offset, 8))
            add(_join(path, "data"), data, offset + at, last)
        elif dtype.fields:
            fields.append((path, kind or names.get(path, "record"), offset, dtype.itemsize))
            parts: Mapping[str, Any] = dtype.fields
            for name in dtype.names or ():
                if "." in name or not name.isprintable():
                    raise TypeError(
                        f"{name!r} cannot be the name of a field: use one without points and control characters"
                    )
                part, at, *_ = parts[name]
                add(_join(path, name), part, offset + at, last and name == (dtype.names or ("",))[-1])
        else:
            known = kind if kind in _WORDS else _KINDS.get(str(dtype.newbyteorder("=").str[1:]))
            if known is None or not dtype.isnative:
                where = f"field '{path}' is" if path else "it is"
                raise TypeError(
                    f"{where} {dtype.str}, which no memlane type has: use native bool, integers up to 64 bits, "
                    "float32 or float64, arrays and structs of these"
                )
            fields.append((path, known, offset, dtype.itemsize))

    add("", np.dtype(dtype), 0, True)
    return fields


def struct(name: str, fields: Sequence[Any]) -> np.dtype[Any]:
    """The dtype of a struct of that name, as C and Rust (`#[repr(C)]`) lay it out: `fields` as NumPy takes them. An
    array of shape (0,) or (0, ...) as its last field is a flexible tail."""
    plain = np.dtype(list(fields), align=True)
    layout = {
        "names": list(plain.names or ()),
        "formats": [plain.fields[part][0] for part in plain.names or ()] if plain.fields else [],
        "offsets": [plain.fields[part][1] for part in plain.names or ()] if plain.fields else [],
        "itemsize": plain.itemsize,
    }
    return np.dtype(layout, align=True, metadata={NAME: name})  # type: ignore[call-overload, no-any-return]


def mutex(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype of a mutex and the data it guards, for a field of a Segment."""
    return struct("mutex", [("mutex", "u8"), ("data", dtype)])


def condition() -> np.dtype[Any]:
    """The dtype of a condition, for a field of a Segment."""
    return np.dtype("u4", metadata={NAME: "condvar"})
