"""State behind a lock in shared memory, and what is done about it when its holder dies half-way.

python shared_state.py          in one terminal: moves money between two accounts
python shared_state.py --die    in another: dies in the midst of it; the first one says so, and repairs it
"""

import argparse
import os
import signal
import sys
import time

import memlane
import numpy as np
import numpy.typing as npt

LOCK, ACCOUNTS, SIZE = 0, 64, 80
TOTAL = 1000


def open_or_create(name: str) -> memlane.SharedMemory:
    """Zeroed, it is valid: the lock is not held, and both accounts are empty."""
    try:
        return memlane.SharedMemory(name, create=True, size=SIZE)
    except FileExistsError:
        return memlane.SharedMemory(name)


def move(accounts: npt.NDArray[np.int64], amount: int, die: bool) -> None:
    accounts[0] -= amount
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    accounts[1] += amount


def repair(accounts: npt.NDArray[np.int64]) -> None:
    """What is missing was on its way to the second account."""
    print(f"repaired: {TOTAL - accounts.sum()} was missing")
    accounts[1] = TOTAL - accounts[0]


def work(memory: memlane.SharedMemory, seconds: float, die: bool) -> int:
    accounts = np.ndarray(2, np.int64, memory.buf, ACCOUNTS)
    lock = memlane.Mutex(memory, LOCK)
    random = np.random.default_rng()
    moves, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with lock:
                if not accounts.any():
                    accounts[0] = TOTAL
                move(accounts, int(random.integers(-10, 11)), die)
                moves += 1
        except memlane.OwnerDied as error:
            print(error)
            with lock.repair():
                repair(accounts)
    with lock:
        if accounts.sum() != TOTAL:
            raise SystemExit(f"shared_state: {accounts[0]} + {accounts[1]} is not {TOTAL}")
    return moves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="accounts", help="the memory [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=60, help="how long to work [default: %(default)s]")
    parser.add_argument("--die", action="store_true", help="die in the midst of it")
    arguments = parser.parse_args()
    with open_or_create(arguments.name) as memory:
        print(f"{work(memory, arguments.seconds, arguments.die)} moves, and nothing is missing")


if __name__ == "__main__":
    try:
        main()
    except TimeoutError as error:
        sys.exit(f"shared_state: {error}")
