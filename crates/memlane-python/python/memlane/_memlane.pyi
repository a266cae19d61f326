"""What is written in Rust: the classes that `__init__.pyi` describes, and what the modules beside it stand on."""

from collections.abc import Callable
from typing import Any, Self, final

import numpy as np

import memlane
from memlane import (
    Client as Client,
    Condition as Condition,
    Frame as Frame,
    Loan as Loan,
    Mutex as Mutex,
    Request as Request,
    Sender as Sender,
    Server as Server,
    Ticket as Ticket,
    WaitSet as WaitSet,
    gc as gc,
    objects as objects,
    remove as remove,
    retire as retire,
)
from memlane._schemas import Field

__version__: str

class Receiver(memlane.Receiver):
    """What `_receiver.py` adds waiting in event loops to."""

    def _done_with_last(self) -> Frame | None: ...
    def _given_out(self, frame: Frame) -> Frame: ...

class Memory:
    """The bytes of an object."""

    def __new__(
        cls, name: str | None = None, create: bool = False, size: int = 0, *, keep: bool = False, mode: int = 0o600
    ) -> Self: ...
    @classmethod
    def create_as(
        cls, name: str, fields: tuple[Field, ...], tail: int, value: bytes, keep: bool, mode: int
    ) -> Memory: ...
    @classmethod
    def open_as(cls, name: str, fields: tuple[Field, ...]) -> Memory: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def origin(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def array(self) -> np.ndarray[Any, Any]: ...
    def close(self) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Repair:
    """A block in which what a mutex guards is repaired."""

    def __enter__(self) -> np.ndarray[Any, Any] | None: ...
    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...

def guarding(memory: Memory, offset: int, guarded: Callable[[Memory], np.ndarray[Any, Any]]) -> Mutex: ...
def described(name: str, path: str) -> tuple[tuple[Field, ...], int]: ...
