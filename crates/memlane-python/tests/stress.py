"""Random calls in random order, from several threads: views, cycles, loans, closings, errors. Every byte is checked."""

import gc
import random
import sys
import threading
from typing import Any

import memlane
import numpy as np

KEPT = 3


class Stress:
    """A channel that is used at random, and what is alive of it."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.name = name
        self.sender = memlane.Sender(
            name, max_message=4096, slots=8, receivers=16, claims=KEPT, loans=3, policy="newest"
        )
        self.receiver = memlane.Receiver(name)
        self.views: list[tuple[int, Any]] = []
        self.sent = 0

    def step(self) -> None:
        kept = [self.receive, self.latest, self.drop, self.cycle]
        self.random.choice([self.send, self.lend, self.fail, self.collect, self.reopen, *kept])()
        for value, view in self.views:
            array = np.asarray(view)
            assert (array == value).all(), (value, array)

    def next_value(self) -> int:
        self.sent += 1
        return self.sent % 250

    def send(self) -> None:
        self.sender.send(np.full((40, 50), self.next_value(), "u1")[:: self.random.choice([1, -1])], metadata=b"m" * 9)

    def lend(self) -> None:
        value = self.next_value()
        with self.sender.loan_array((40, 50)) as pixels:
            rows = pixels[1:]
            pixels[0] = value
            rows[...] = value
        try:
            rows[...] = 0
        except ValueError:
            return
        raise AssertionError("it can be written after it was sent")

    def fail(self) -> None:
        for wrong in (
            lambda: self.sender.send(np.zeros(5000, "u1")),
            lambda: self.sender.loan_array((1, -1)),
            lambda: self.sender.send(object()),
            lambda: memlane.Receiver("nothing"),
        ):
            try:
                wrong()
            except (memlane.Error, ValueError, TypeError, OverflowError):
                continue
            raise AssertionError("it did not fail")
        try:
            with self.sender.loan_array(9):
                raise LookupError
        except LookupError:
            pass

    def keep(self, frame: memlane.Frame | None) -> None:
        if frame is None:
            return
        array = frame.array
        assert array.shape == (40, 50)
        views = [array, array[3:, ::7], memoryview(frame), np.asarray(frame).T, np.from_dlpack(frame), frame]
        self.views.append((int(array[0, 0]), self.random.choice(views)))

    def receive(self) -> None:
        try:
            self.keep(self.receiver.try_recv())
        except memlane.ClaimsInUse:
            self.drop()

    def latest(self) -> None:
        try:
            self.keep(self.receiver.latest())
        except memlane.ClaimsInUse:
            self.drop()

    def drop(self) -> None:
        if self.views:
            self.views.pop(self.random.randrange(len(self.views)))

    def cycle(self) -> None:
        if self.views:
            value, view = self.views.pop(self.random.randrange(len(self.views)))
            cycle: list[Any] = [view, value]
            cycle.append(cycle)

    def collect(self) -> None:
        gc.collect(self.random.randrange(3))

    def reopen(self) -> None:
        if self.random.random() < 0.2:
            self.receiver.close()
            self.receiver = memlane.Receiver(self.name, timeout=10)
        if self.random.random() < 0.1:
            self.sender.close()
            self.sender = memlane.Sender.open(self.name)


def work(index: int, rounds: int, failed: list[BaseException]) -> None:
    try:
        stress = Stress(f"stress-{index}", index)
        for _ in range(rounds):
            stress.step()
    except BaseException as error:
        failed.append(error)
        raise


def main() -> None:
    rounds = int(sys.argv[1])
    failed: list[BaseException] = []
    threads = [threading.Thread(target=work, args=(index, rounds, failed)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(1)
    gc.collect()
    left = memlane.objects()
    assert not left, left
    print(rounds, "rounds")


if __name__ == "__main__":
    main()
