"""Each test has a directory for objects of its own, empty at the end, and processes that say nothing on stderr."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would count among ours, and be lost by a fork

import memlane
import pytest
from place import Place, dismiss

PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[Place, None, None]:
    place = Place()
    monkeypatch.setenv("MEMLANE_DIR", str(place.directory))
    yield place
    place.end(passed=request.node.stash.get(PASSED, False))


@pytest.fixture
def pair(place: Place) -> Generator[tuple[memlane.Sender, memlane.Receiver], None, None]:
    """Both ends of a channel of arrays."""
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        yield sender, receiver


@pytest.fixture
def command() -> str:
    """The `memlane` command, a Rust program."""
    path = os.environ.get("MEMLANE_COMMAND")
    if not path:
        pytest.skip("MEMLANE_COMMAND does not name the `memlane` command: no Rust program was tried")
    assert os.access(path, os.X_OK), f"MEMLANE_COMMAND={path} cannot be run"
    return str(Path(path).resolve())


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there now is not looked at whenever a test collects garbage


def pytest_sessionfinish() -> None:
    dismiss()
