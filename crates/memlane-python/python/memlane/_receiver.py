"""Receivers, also in event loops: one thread for all of them waits, and tells the loops."""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator

from memlane import _memlane
from memlane._errors import ClaimsInUse, Closed


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Waiter:
    """The thread that waits for the receivers of all event loops of this process."""

    def __init__(self) -> None:
        self._set = _memlane.WaitSet()
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[None], _memlane.Receiver]] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="memlane", daemon=True)
        self._thread.start()
        # Before the interpreter takes itself apart: a thread cannot come back into it then.
        atexit.register(self._end)

    def _run(self) -> None:
        while not self._ended:
            for key in self._set.wait():
                self._tell(key)

    def _tell(self, key: int) -> None:
        with self._lock:
            self._set.remove(key)
            waiting = self._waiting.pop(key, None)
        if waiting:
            loop, future, _ = waiting
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # the loop was closed
                pass

    def forget(self, receiver: _memlane.Receiver) -> None:
        """Wake who waits for a receiver that was closed."""
        with self._lock:
            keys = [key for key, (*_, its) in self._waiting.items() if its is receiver]
        for key in keys:
            self._tell(key)

    def _end(self) -> None:
        global _waiter
        _waiter = None
        self._ended = True
        self._set.wake()
        self._thread.join()

    async def wait(self, receiver: _memlane.Receiver) -> None:
        """Wait until there is something to receive, or nothing will come."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            key = self._set.add(receiver)
            self._waiting[key] = loop, future, receiver
        try:
            await future
        finally:
            with self._lock:
                self._set.remove(key)
                self._waiting.pop(key, None)


_waiter: _Waiter | None = None


def _the_waiter() -> _Waiter:
    global _waiter
    if _waiter is None:
        _waiter = _Waiter()
    return _waiter


def _forget_waiter() -> None:
    """The child of a fork has no threads but one, and what the others held is held for ever."""
    global _waiter
    if _waiter is not None:
        atexit.unregister(_waiter._end)
        _waiter = None


os.register_at_fork(after_in_child=_forget_waiter)


class Receiver(_memlane.Receiver):
    """Receives messages; see `__init__.pyi`."""

    def close(self) -> None:
        super().close()
        if _waiter is not None:
            _waiter.forget(self)

    def __exit__(self, *_: object) -> None:
        self.close()

    async def recv_async(self) -> _memlane.Frame:
        while (frame := self.try_recv()) is None:
            await _the_waiter().wait(self)
        return frame

    def __aiter__(self) -> AsyncIterator[_memlane.Frame]:
        return self

    async def __anext__(self) -> _memlane.Frame:
        last = self._done_with_last()
        try:
            try:
                frame = await self.recv_async()
            except ClaimsInUse as full:
                # The loop has the last one still: if nobody looks at it, it goes.
                if last is None:
                    raise
                try:
                    last.release()
                except BufferError:
                    raise full from None
                frame = await self.recv_async()
        except Closed:
            raise StopAsyncIteration from None
        return self._given_out(frame)
