"""What memlane says of processes, messages and objects, as named tuples; and what it is told, as names."""

from typing import Literal, NamedTuple, TypeAlias

import numpy.typing as npt


class Who(NamedTuple):
    pid: int
    name: str
    stopped: bool

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}{', stopped' if self.stopped else ''})"


class Handled(NamedTuple):
    who: Who | None
    outcome: str


class ReceiverInfo(NamedTuple):
    who: Who | None
    lag: int
    missed: int
    claims: int


class SenderInfo(NamedTuple):
    who: Who | None
    lane: int
    sent: int


class Listed(NamedTuple):
    name: str
    size: int
    type: str | None
    kept: bool
    dead: bool
    users: list[Who]


Policy: TypeAlias = Literal["lossless", "newest", "queue"]
PixelFormat: TypeAlias = Literal[
    "gray8", "gray16", "grayalpha8", "grayalpha16", "rgb8", "rgb16", "rgba8", "rgba16", "bgr8", "bgra8"
]
MessageType: TypeAlias = Literal["tensor", "image", "bytes"] | npt.DTypeLike
