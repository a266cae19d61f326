"""What memlane says of processes, messages and objects, as named tuples; and what it is told, as names."""

from typing import Literal, NamedTuple, TypeAlias

import numpy.typing as npt


class Who(NamedTuple):
    """A process, as people know it."""

    pid: int
    name: str
    stopped: bool

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}{', stopped' if self.stopped else ''})"


class Handled(NamedTuple):
    """What one receiver did with a message."""

    who: Who | None
    outcome: Literal["processed", "gave back", "skipped", "died", "unknown"]


class ReceiverInfo(NamedTuple):
    """Somebody who receives."""

    who: Who | None
    lag: int
    missed: int
    claims: int


class SenderInfo(NamedTuple):
    """Somebody who sends."""

    who: Who | None
    lane: int
    sent: int


class Listed(NamedTuple):
    """An object in the directory of this user."""

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
"""What the messages of a channel are: arrays of any shape and dtype, images, bytes, or records of one dtype."""
