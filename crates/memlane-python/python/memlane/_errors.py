"""What can go wrong: an exception for each error of the library, which derives from the built-in one that fits.

The message names the object, the cause and the cure.
"""

from memlane._types import Who

__all__ = [
    "AlreadyExists", "AlreadyLocked", "BadOptions", "Busy", "ClaimsInUse", "Closed", "Corrupt", "DirectoryError",
    "Error", "Foreign", "ForkedError", "Full", "Incompatible", "Interrupted", "InvalidName", "LoansInUse",
    "NoReceiver", "NoRoom", "NoSpace", "NotFound", "NotInSegment", "OutOfBounds", "OwnerDied", "PeerLost",
    "Released", "Retired", "SenderDied", "SystemFailure", "TimedOut", "TooFew", "TooLarge", "TooManyParticipants",
    "TypeMismatch", "UnsafeMode",
]  # fmt: skip


class Error(Exception):
    """Any error of memlane. `who` are the processes that it is about."""

    who: "list[Who]" = []


class InvalidName(Error, ValueError):
    """The name is not 1 to 200 of the characters A-Z a-z 0-9 _ . -"""


class DirectoryError(Error, OSError):
    """The directory that holds the objects cannot be trusted or used."""


class NotFound(Error, FileNotFoundError):
    """No object has that name, or only a dead one."""


class AlreadyExists(Error, FileExistsError):
    """The object exists and is in use, or is kept until it is removed."""


class Foreign(Error, OSError):
    """Something that is no memlane object has that name."""


class Corrupt(Error, OSError):
    """The object, or a message, is not as its creator left it. The message was passed over."""


class Incompatible(Error, OSError):
    """The object was made by a program of another memlane format or another kind of machine."""


class TypeMismatch(Error, TypeError):
    """The object holds another type than the one asked for; the message shows the difference field by field."""


class NoSpace(Error, MemoryError):
    """The memory cannot be had. Nothing was left behind."""


class UnsafeMode(Error, PermissionError):
    """The mode would let any user write into the object."""


class ForkedError(Error, RuntimeError):
    """It was opened before this process was forked: open it again in the child."""


class TooLarge(Error, ValueError):
    """The object, or the message, would be larger than can be."""


class TooManyParticipants(Error, OSError):
    """As many processes as can be are attached already."""


class NoRoom(Error, OSError):
    """Every place for another sender or receiver of the channel is taken by a living one."""


class BadOptions(Error, ValueError):
    """No channel can be as the options say."""


class Busy(Error, TimeoutError):
    """Somebody has held the directory for long, or another thread uses this receiver."""


class TimedOut(Error, TimeoutError):
    """The time is over. The message names the culprit, if there is one."""


class OutOfBounds(Error, ValueError):
    """The range does not lie in the memory, or not at an address that suits it."""


class SystemFailure(Error, OSError):
    """The operating system refused."""


class AlreadyLocked(Error, RuntimeError):
    """This thread holds the lock already."""


class Retired(Error, OSError):
    """The object was removed by force."""


class Interrupted(Error, InterruptedError):
    """A wait was interrupted by a signal."""


class NotInSegment(Error, ValueError):
    """The lock, condition or event does not lie in that memory."""


class OwnerDied(Error, RuntimeError):
    """The last holder of the lock died, or left its block by an exception: what it guards may be half-changed."""


class PeerLost(Error, ConnectionError):
    """The process that was waited for has died, or closed the object."""


class LoansInUse(Error, BufferError):
    """As many messages are being filled as can be."""


class ClaimsInUse(Error, BufferError):
    """As many messages are held as can be. Nothing was received."""


class Released(Error, ValueError):
    """The frame was released, the loan sent, or the object closed: it cannot be used any more."""


class Full(Error, TimeoutError):
    """The channel is full; the message names the slowest receiver."""


class NoReceiver(Error, BrokenPipeError):
    """The channel is full, and nobody receives any more."""


class TooFew(Error, TimeoutError):
    """Fewer receivers than were waited for have come in time."""


class Closed(Error, EOFError):
    """Everything was received, and every sender has closed the channel."""


class SenderDied(Error, ConnectionResetError):
    """Everything was received, nobody sends any more, and a sender has died."""
