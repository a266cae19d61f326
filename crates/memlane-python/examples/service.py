"""A service: a server counts the values in pictures, for clients that have several requests under way.

    python service.py serve    in one terminal
    python service.py ask      in others

Kill the server with `kill -9` and start it again: its clients get what it had not answered from its successor.
"""

import argparse
import sys

import memlane
import numpy as np

SHAPE = (1080, 1920, 3)


def serve(name: str) -> None:
    """Answers in place: the counts are made where the client reads them."""
    answered = 0
    with memlane.Server(name, max_request=int(np.prod(SHAPE)), max_answer=3 * 256 * 8) as server:
        try:
            for request in server:
                with request, request.loan_array((3, 256), "int64") as counts:
                    for channel in range(3):
                        counts[channel] = np.bincount(request.array[..., channel].ravel(), minlength=256)
                answered += 1
        except KeyboardInterrupt:
            print(f"{answered} requests answered")


def ask(name: str, number: int) -> None:
    random = np.random.default_rng()
    with memlane.Client(name, timeout=60) as client:
        expected: dict[int, np.uint64] = {}
        for _ in range(number):
            request = client.loan_array(SHAPE)
            request.array[:] = random.integers(0, 256, SHAPE, np.uint8)
            total = request.array.sum()
            expected[client.call(request)] = total
            if len(expected) == 3:
                take(client, expected)
        while expected:
            take(client, expected)
    print(f"{number} pictures counted, every sum is right")


def take(client: memlane.Client, expected: dict[int, np.uint64]) -> None:
    """Takes any answer; if the server is dead, from its successor."""
    while True:
        try:
            call, answer = client.any_answer(60)
            break
        except (memlane.SenderDied, memlane.Closed) as error:
            print(error, file=sys.stderr)
            client.wait_for_server(60)
    with answer:
        found = (answer.array * np.arange(256)).sum()
    if found != expected.pop(call):
        raise SystemExit(f"service: a wrong answer to call {call}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["serve", "ask"])
    parser.add_argument("--name", default="counts", help="the service [default: %(default)s]")
    parser.add_argument("--number", type=int, default=30, help="how many requests to send [default: %(default)s]")
    arguments = parser.parse_args()
    if arguments.role == "serve":
        serve(arguments.name)
    else:
        ask(arguments.name, arguments.number)


if __name__ == "__main__":
    main()
