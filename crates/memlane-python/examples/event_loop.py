"""Two channels in one event loop: the numbers of two sensors, each as they come, and no thread for either.

python event_loop.py send     in one terminal
python event_loop.py watch    in another, before or after
"""

import argparse
import asyncio
import sys
import time

import memlane
import numpy as np

READING = np.dtype([("time", "f8"), ("value", "f8")])
PERIODS = {"fast": 0.005, "slow": 0.05}


async def watch(receiver: memlane.Receiver) -> None:
    values = []
    async for reading in receiver:
        with reading:
            values.append(float(reading.array["value"]))
    print(f"{receiver.name}: {len(values)} readings, mean {np.mean(values):.3f}")


async def watch_all(name: str) -> None:
    receivers = [memlane.Receiver(f"{name}-{speed}", timeout=60) for speed in PERIODS]
    async with asyncio.TaskGroup() as tasks:
        for receiver in receivers:
            tasks.create_task(watch(receiver))


async def measure(sensor: memlane.Sender, period: float, number: int) -> None:
    for _ in range(number):
        with sensor.loan() as reading:
            now = time.monotonic()
            reading["time"], reading["value"] = now, np.sin(now)
        await asyncio.sleep(period)


async def send_all(name: str, seconds: float) -> None:
    sensors = {speed: memlane.Sender(f"{name}-{speed}", message=READING, policy="newest") for speed in PERIODS}
    for sensor in sensors.values():
        await asyncio.to_thread(sensor.wait_for_receivers, 1, 60)
    async with asyncio.TaskGroup() as tasks:
        for speed, period in PERIODS.items():
            tasks.create_task(measure(sensors[speed], period, round(seconds / period)))
    for sensor in sensors.values():
        sensor.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["send", "watch"])
    parser.add_argument("--name", default="sensor", help="what the channels' names begin with [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=5, help="how long to send [default: %(default)s]")
    arguments = parser.parse_args()
    if arguments.role == "send":
        asyncio.run(send_all(arguments.name, arguments.seconds))
    else:
        asyncio.run(watch_all(arguments.name))


if __name__ == "__main__":
    try:
        main()
    except* (memlane.SenderDied, TimeoutError) as errors:
        sys.exit(f"event_loop: {errors.exceptions[0]}")
