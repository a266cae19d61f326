"""Shared memory between processes that no crash can hang, corrupt or leak."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from memlane._errors import (
    AlreadyExists as AlreadyExists,
    AlreadyLocked as AlreadyLocked,
    BadOptions as BadOptions,
    Busy as Busy,
    ClaimsInUse as ClaimsInUse,
    Closed as Closed,
    Corrupt as Corrupt,
    DirectoryError as DirectoryError,
    Error as Error,
    Foreign as Foreign,
    ForkedError as ForkedError,
    Full as Full,
    Incompatible as Incompatible,
    Interrupted as Interrupted,
    InvalidName as InvalidName,
    LoansInUse as LoansInUse,
    NoReceiver as NoReceiver,
    NoRoom as NoRoom,
    NoSpace as NoSpace,
    NotFound as NotFound,
    NotInSegment as NotInSegment,
    OutOfBounds as OutOfBounds,
    OwnerDied as OwnerDied,
    PeerLost as PeerLost,
    Released as Released,
    Retired as Retired,
    SenderDied as SenderDied,
    SystemFailure as SystemFailure,
    TimedOut as TimedOut,
    TooFew as TooFew,
    TooLarge as TooLarge,
    TooManyParticipants as TooManyParticipants,
    TypeMismatch as TypeMismatch,
    UnsafeMode as UnsafeMode,
)
from memlane._schemas import condition as condition, mutex as mutex, struct as struct
from memlane._types import (
    Handled as Handled,
    Listed as Listed,
    MessageType as MessageType,
    PixelFormat as PixelFormat,
    Policy as Policy,
    ReceiverInfo as ReceiverInfo,
    SenderInfo as SenderInfo,
    Who as Who,
)

__version__: Final[str]

_A = TypeVar("_A")

class Frame:
    """A message that was received, in place.

    It stays as it is while it, or a view of it, is there: the last view that goes gives its slot back, and says that
    it was processed. As a context manager it is released at the end, or given back if an exception leaves the block.
    """

    @property
    def sequence(self) -> int:
        """Its number in its lane, from 1, without a gap."""
    @property
    def lane(self) -> int:
        """The lane it came by: each sender has one."""
    @property
    def missed(self) -> int:
        """How many messages of its lane were overwritten before this receiver could get them, since the one before."""
    @property
    def deliveries(self) -> int:
        """In a queue, how often it was taken, with this time."""
    @property
    def age(self) -> float | None:
        """How many seconds ago it was sent, or None if its sender reads another clock."""
    @property
    def metadata(self) -> bytes:
        """Up to 64 bytes that its sender sent along."""
    @property
    def schema_id(self) -> int:
        """What its sender says that the bytes are; 0 if it says nothing."""
    @property
    def nbytes(self) -> int:
        """The number of bytes of its content."""
    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its array."""
    @property
    def format(self) -> PixelFormat | None:
        """The pixel format, if it is an image."""
    @property
    def array(self) -> npt.NDArray[Any]:
        """It as an array in shared memory: read-only, not copied. A record is an array of no dimensions."""
    @property
    def released(self) -> bool:
        """Whether it was released or given back: then it can no longer be looked at."""
    def release(self) -> None:
        """Let go of it: it was processed. Raises BufferError while there are views of it, which keep it."""
    def give_back(self) -> None:
        """Let go of it, and say that it was not processed: in a queue somebody else gets it."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """For torch.from_dlpack and others. Read-only, which needs version 1.0 of DLPack, or a copy."""
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Ticket:
    """Stands for a message that was sent, to find out what has become of it."""

    @property
    def sequence(self) -> int: ...
    @property
    def is_processed(self) -> bool:
        """Whether anybody has processed it."""
    def wait(self, timeout: float | None = None) -> list[Handled]:
        """Wait until everybody who received when it was sent is done with it, and say who did what."""
    def wait_processed(self, timeout: float | None = None) -> None:
        """Wait until anybody has processed it."""

@final
class Loan:
    """Room for a message in shared memory, to be filled in place and sent.

    As a context manager it gives its array, and sends at the end; an exception in the block sends nothing. Once it is
    sent, its array and all views that were made of it by NumPy can no longer be written.
    """

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array, writable, in shared memory. What is in it first is what an earlier message left there."""
    @property
    def nbytes(self) -> int: ...
    @property
    def ticket(self) -> Ticket | None:
        """Once it was sent, what stands for it."""
    metadata: bytes
    """Up to 64 bytes to be sent along."""
    schema_id: int
    """What the bytes are: a number that sender and receivers agree on."""
    def send(self, timeout: float | None = None) -> Ticket:
        """Send it: wait for room at most so long. Raises BufferError while somebody else has a view that could still
        write."""
    def discard(self) -> None:
        """Send nothing, and give the room back."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __enter__(self) -> npt.NDArray[Any]: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Sender:
    """Sends messages to everybody who receives from the channel of that name.

    Creates the channel: FileExistsError if there is one that is in use. All its memory is reserved at once:
    `slots + receivers * (claims + 1) + loans` buffers of `max_message` bytes for each sender.

    max_message: the bytes of the largest array, image or message (65536 by default; of records, their size).
    slots: how many messages are kept for slow receivers. senders, receivers: how many there can be at a time.
    claims: how many messages a receiver can hold at a time. loans: how many a sender can fill at a time.
    policy: "lossless" blocks the sender while the window is full, "newest" overwrites the oldest message, "queue"
    gives each message to one receiver. message: what the messages are. keep: the channel stays until it is removed.
    mode: permission bits.
    """

    def __new__(
        cls,
        name: str,
        *,
        max_message: int | None = None,
        slots: int = 4,
        senders: int = 1,
        receivers: int = 4,
        claims: int = 2,
        loans: int = 2,
        policy: Policy = "lossless",
        message: MessageType | None = ...,
        keep: bool = False,
        mode: int = 0o600,
    ) -> Self: ...
    @classmethod
    def open(cls, name: str) -> Sender:
        """Become another sender of a channel that exists, or the successor of one that died."""
    @classmethod
    def open_or_create(
        cls,
        name: str,
        *,
        max_message: int | None = None,
        slots: int = 4,
        senders: int = 1,
        receivers: int = 4,
        claims: int = 2,
        loans: int = 2,
        policy: Policy = "lossless",
        message: MessageType | None = ...,
        keep: bool = False,
        mode: int = 0o600,
    ) -> Sender:
        """Open the channel, or create it if there is none."""
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> int:
        """A random number that no other object has or had."""
    @property
    def max_message(self) -> int:
        """The bytes of the largest array, image or message."""
    @property
    def message(self) -> Literal["tensor", "image", "bytes"] | np.dtype[Any]:
        """What the messages are."""
    @property
    def closed(self) -> bool: ...
    def loan_array(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | None = ..., *, timeout: float | None = None
    ) -> Loan:
        """Room for an array, of uint8 if nothing else is said; `timeout` is for sending it at the end of a `with`
        block."""
    def loan_image(
        self, width: int, height: int, format: PixelFormat = "rgb8", *, timeout: float | None = None
    ) -> Loan:
        """Room for an image: an array of (height, width) or (height, width, channels)."""
    def loan(self, size: int = 0, *, timeout: float | None = None) -> Loan:
        """Room for so many bytes, or for a record with so many elements in its flexible tail."""
    def send(
        self,
        data: npt.ArrayLike | Buffer,
        *,
        timeout: float | None = None,
        metadata: bytes = ...,
        schema_id: int = 0,
        format: PixelFormat | None = None,
    ) -> Ticket:
        """Send a copy: of an array, contiguous or not, of bytes, or of a record. Waits for room at most so long."""
    def receivers(self) -> list[ReceiverInfo]: ...
    def senders(self) -> list[SenderInfo]: ...
    def wait_for_receivers(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until so many receive."""
    def remove_name(self) -> None:
        """Take the channel's name away: who receives goes on, nobody else can come."""
    def close(self) -> None:
        """Close the channel for this sender; receivers get what was sent. Others can have its lane, or its name, when
        the last of its tickets, loans and their arrays has gone."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class Receiver:
    """Receives messages from everybody who sends to the channel of that name, whatever their type.

    timeout: how many seconds to wait for the channel; FileNotFoundError if it is not there and 0, TimeoutError if it
    does not come; None waits for ever.

    Iterating ends when every sender has closed the channel. Asking for the next frame says that the last one was
    processed: a loop that still has it, or its array, can go on looking at it, and keeps nobody waiting. Other frames
    are processed when they are released, or they and their views have gone: `with receiver.recv() as frame:` says
    when.
    """

    def __new__(cls, name: str, *, timeout: float | None = ...) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def message(self) -> Literal["tensor", "image", "bytes"] | np.dtype[Any]:
        """What the messages are."""
    @property
    def closed(self) -> bool: ...
    def recv(self, timeout: float | None = None) -> Frame:
        """Receive the next message: sleeps, without the interpreter's lock, until there is one."""
    def try_recv(self) -> Frame | None:
        """Receive a message if there is one."""
    def latest(self) -> Frame | None:
        """Receive the newest message if there is one, and pass over all before it."""
    def recv_many(self, most: int) -> list[Frame]:
        """Wait for a message, and receive up to `most` that are there then."""
    async def recv_async(self) -> Frame:
        """Receive the next message in an event loop. Can be cancelled: then nothing is received."""
    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to receive."""
    def wait_for_sender(self, timeout: float | None = None) -> None: ...
    def rewind(self) -> None:
        """Go back to the oldest message that is kept."""
    def receivers(self) -> list[ReceiverInfo]: ...
    def senders(self) -> list[SenderInfo]: ...
    def close(self) -> None:
        """Close the channel for this receiver. What it holds stays."""
    def __iter__(self) -> Iterator[Frame]: ...
    def __next__(self) -> Frame: ...
    def __aiter__(self) -> AsyncIterator[Frame]: ...
    async def __anext__(self) -> Frame: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class Request(Frame):
    """A request that a server has received. Releasing it says that it was dealt with."""

    def loan_array(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | None = ..., *, timeout: float | None = None
    ) -> Loan: ...
    def loan(self, size: int = 0, *, timeout: float | None = None) -> Loan: ...
    def answer(self, data: npt.ArrayLike | Buffer, *, timeout: float | None = None, metadata: bytes = ...) -> Ticket:
        """Answer with a copy."""

@final
class Server:
    """Answers requests. There is one living server of a service; a successor of a dead one gets what was not answered.

    Creates the service. request, answer: what they are. max_request, max_answer: the bytes of the largest ones.
    """

    def __new__(
        cls,
        name: str,
        *,
        max_request: int | None = None,
        max_answer: int | None = None,
        slots: int = 4,
        clients: int = 8,
        claims: int = 2,
        loans: int = 2,
        request: MessageType | None = ...,
        answer: MessageType | None = ...,
        keep: bool = False,
        mode: int = 0o600,
    ) -> Self: ...
    @classmethod
    def open(cls, name: str) -> Server: ...
    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def recv(self, timeout: float | None = None) -> Request: ...
    def try_recv(self) -> Request | None: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[Request]: ...
    def __next__(self) -> Request: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Client:
    """Sends requests to a server: several may be under way, and answers come in any order."""

    def __new__(cls, name: str, *, timeout: float | None = ...) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def loan_array(self, shape: int | Sequence[int], dtype: npt.DTypeLike | None = ...) -> Loan: ...
    def loan(self, size: int = 0) -> Loan: ...
    def call(self, request: Loan | npt.ArrayLike | Buffer) -> int:
        """Send a request, and return the number of the call."""
    def answer(self, call: int, timeout: float | None = None) -> Frame:
        """Wait for the answer to a call."""
    def any_answer(self, timeout: float | None = None) -> tuple[int, Frame]:
        """Wait for the answer to any call."""
    def forget(self, call: int) -> None:
        """Do without the answer to a call: it is dropped if it comes."""
    def ask(self, request: npt.ArrayLike | Buffer, timeout: float | None = None) -> Frame:
        """Send a request and wait for its answer."""
    def wait_for_server(self, timeout: float | None = None) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class WaitSet:
    """Receivers of any channels, to be waited for together. They can be added and removed while another thread
    waits."""

    def __new__(cls) -> Self: ...
    def add(self, receiver: Receiver) -> int:
        """Add a receiver; returns its key."""
    def remove(self, key: int) -> bool: ...
    def wake(self) -> None:
        """End a wait that is under way, or else the next one."""
    def wait(self, timeout: float | None = None) -> list[int]:
        """Wait until something can be received; returns the keys of those of which that is so."""
    def __len__(self) -> int: ...

class SharedMemory:
    """Named memory, as multiprocessing.shared_memory.SharedMemory, without its resource tracker.

    It is there whole or not at all, and reserved: no SIGBUS. It goes when its last user has closed it or died; with
    `keep` it stays until it is unlinked, as POSIX has it.
    """

    def __new__(
        cls, name: str | None = None, create: bool = False, size: int = 0, *, keep: bool = False, mode: int = 0o600
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def origin(self) -> Literal["created", "taken over", "opened"]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def buf(self) -> memoryview | None:
        """The bytes, to be read and written in place; None once it was closed."""
    def close(self) -> None:
        """Close it for this process. Raises BufferError while there are views of it."""
    def unlink(self) -> None:
        """Take its name away; who has it open goes on."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class Segment:
    """A record of a structured dtype in shared memory, checked against what its creator says that it is.

    dtype: None takes what the object is. create: create it, filled from `value` before its name appears, or zeroed.
    tail: the elements of its flexible tail. A dtype has a field for a lock if that field is `memlane.mutex(...)`.
    """

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
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def origin(self) -> Literal["created", "taken over", "opened"]:
        """Whether it was created here; one that was taken over has what was in it, not `value`."""
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def array(self) -> npt.NDArray[Any]:
        """The record, as an array of no dimensions, read-only: what changes is to be looked at under its lock."""
    def mutex(self, field: str) -> Mutex:
        """The mutex at that path."""
    def condition(self, field: str, mutex: Mutex) -> Condition:
        """The condition at that path."""
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Mutex:
    """A lock between processes, of 8 bytes that lie in shared memory at `offset`, a multiple of 8; zeroed, it is
    unlocked.

    No death of a holder blocks it: entering raises OwnerDied then, and `repair()` locks it all the same. An exception
    that leaves the block counts as a death: what the lock guards may be half-changed.
    """

    def __new__(cls, memory: SharedMemory | Segment, offset: int = 0) -> Self: ...
    def acquire(self, timeout: float | None = None) -> None:
        """Lock it. TimeoutError names who holds it; OwnerDied if its last holder died, and it is not locked then."""
    def release(self, complete: bool = True) -> None:
        """Unlock it; with False, as if its holder had died."""
    def repair(self, timeout: float | None = None) -> AbstractContextManager[npt.NDArray[Any] | None]:
        """Lock it whether or not its last holder died; what it guards counts as repaired when the block ends."""
    @property
    def locked(self) -> bool:
        """Whether this object holds it."""
    def __enter__(self) -> npt.NDArray[Any] | None:
        """Lock it; what it guards, writable, if it lies in a Segment."""
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Condition:
    """A condition between processes, of 4 bytes at `offset`, a multiple of 4, beside a mutex."""

    def __new__(cls, memory: SharedMemory | Segment, offset: int, mutex: Mutex) -> Self: ...
    def wait(self, timeout: float | None = None) -> bool:
        """Unlock the mutex, sleep until somebody notifies, lock it again; False if the time is over. May return for no
        reason. To wait in `repair()` says that it is repaired. An exception ends it without the mutex."""
    def wait_for(self, predicate: Callable[[], _A], timeout: float | None = None) -> _A:
        """Wait until `predicate()` is true, and return what it returned last."""
    def notify(self) -> None: ...
    def notify_all(self) -> None: ...

def schema(name: str, path: str = "") -> np.dtype[Any]:
    """The dtype of what is in an object, whoever made it; of a channel, of its messages. Its flexible tail, if it has
    one, has as many elements as the object; of messages, none."""

def remove(name: str) -> None:
    """Take a name away; FileNotFoundError if there is none."""

def retire(name: str) -> None:
    """Take a name away, and tell all who use the object to let go of it: their waits end with Retired."""

def gc(dry_run: bool = False) -> list[str]:
    """Remove what crashes left; returns the names."""

def objects() -> list[Listed]:
    """What there is, and who uses it."""
