"""Shared memory between processes that no crash can hang, corrupt or leak.

Start with `Sender` and `Receiver`: arrays, images, bytes and records, filled and read in place, from one or several
processes to any number of others; with `Server` and `Client`, requests and answers. `SharedMemory` is named memory,
`Segment` a record in it, `Mutex` and `Condition` lie in either and survive the death of who holds them.
"""

from memlane import _errors
from memlane._errors import *  # noqa: F403
from memlane._memlane import (
    Client,
    Condition,
    Frame,
    Loan,
    Mutex,
    Request,
    Sender,
    Server,
    Ticket,
    WaitSet,
    __version__,
    gc,
    objects,
    remove,
    retire,
)
from memlane._memory import Segment, SharedMemory, schema
from memlane._receiver import Receiver
from memlane._schemas import condition, mutex, struct
from memlane._types import Handled, Listed, MessageType, PixelFormat, Policy, ReceiverInfo, SenderInfo, Who

__all__ = [
    *_errors.__all__,
    "Client", "Condition", "Frame", "Handled", "Listed", "Loan", "MessageType", "Mutex", "PixelFormat", "Policy",
    "Receiver", "ReceiverInfo", "Request", "Segment", "Sender", "SenderInfo", "Server", "SharedMemory", "Ticket",
    "WaitSet", "Who", "__version__", "condition", "gc", "mutex", "objects", "remove", "retire", "schema", "struct",
]  # fmt: skip
