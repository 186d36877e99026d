"""Input of any kind for a command in this process, and a check of how it ends."""

import contextlib
import io
import os
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lib.core.errors import BadInput

ENDINGS = {0: "done", 1: "not all done", 2: "refused in one line", 130: "interrupted"}
SECONDS = 60  # that one input may take
MEMORY = 2 * 2**30  # bytes that one input may allocate


def fuzz(strategy: st.SearchStrategy, check: Callable[[Any], object], count: int, repeat: bool) -> Counter:
    """Call `check` with `count` inputs, the same ones each time if `repeat`; counts what it returns."""
    endings = Counter()

    @settings(
        max_examples=count,
        derandomize=repeat,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def one(value):
        endings[str(check(value))] += 1

    one()
    return endings


def ending(main: Callable[[list[str]], int], words: list[str]) -> str:
    """How a command ends, after a check that its exit code is one of ENDINGS and an error is one line."""
    out, err = _stream("strict"), _stream("backslashreplace")
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        limits(),
    ):
        warnings.simplefilter("ignore")
        try:
            code = main(words)
        except SystemExit as end:  # argparse
            code = end.code
    out.flush(), err.flush()
    said = err.buffer.getvalue().decode()
    assert code in ENDINGS, f"{words} ended with {code!r}"
    assert "Traceback" not in said, f"{words} printed {said}"
    if code == 2 and not said.startswith("usage: "):
        # One line, apart from those on each image or record that is left out.
        lines = [line for line in said.split("\n")[:-1] if not line.startswith(("skipped: ", "left out: "))]
        assert all(line.startswith("error: ") for line in lines) and len(lines) < 2, f"{words} printed {said}"
    return ENDINGS[code]


def refusal(read: Callable[[], object]) -> str:
    """How reading what may be damaged ends: it is read, or refused by a BadInput."""
    try:
        with limits():
            read()
    except BadInput:
        return ENDINGS[2]
    return "read"


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of these contents with some bytes flipped, cut out, doubled, or replaced by those of another."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        end = min(len(data), at + draw(st.sampled_from([1, 2, 16, 512, len(data)])))
        match draw(st.sampled_from(["flip", "cut", "double", "replace", "insert"])):
            case "flip":
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at:end]
            case "double":
                data[at:at] = data[at:end]
            case "replace":
                other = draw(st.sampled_from(originals))
                data[at:end] = other[at:end]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


def _stream(errors: str) -> io.TextIOWrapper:
    """A stream that encodes as those of a process do."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors)


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raise where something takes more than SECONDS, or fail to allocate more than MEMORY."""

    def late(*_):
        pytest.fail(f"took more than {SECONDS} seconds")  # no Exception, which a decoder would report

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
