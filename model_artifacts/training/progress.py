"""How far a training is, on standard error: a bar that is redrawn on a terminal, a plain line now and then elsewhere.

Owns nothing but the words. Standard output stays free. `now_s` is an argument (monotonic seconds), so tests need no waiting.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO, TypeVar

T = TypeVar("T")

WIDTH = 24
LINE_EVERY_S = 30.0
"""Between two plain lines: a log of an hour's training stays readable."""


def say(text: str, stream: TextIO | None = None) -> None:
    """One line with the time of day."""
    out = sys.stderr if stream is None else stream
    out.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    out.flush()


def track(
    items: Sequence[T],
    label: str,
    stream: TextIO | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """The items one by one; after each, what is done, how long it took and how long the rest will take at that pace."""
    out = sys.stderr if stream is None else stream
    began = shown = now_s()
    terminal = out.isatty()
    for done, item in enumerate(items, start=1):
        yield item
        now = now_s()
        last = done == len(items)
        if terminal:
            out.write("\r" + bar(label, done, len(items), now - began) + ("\n" if last else ""))
        elif last or now - shown >= LINE_EVERY_S:
            shown = now
            out.write(bar(label, done, len(items), now - began).rstrip() + "\n")
        out.flush()


def bar(label: str, done: int, total: int, elapsed_s: float) -> str:
    """`fold [######------------------] 1/4  12 s, 36 s left`, padded so that a shorter text covers a longer one."""
    full = WIDTH * done // total
    left_s = elapsed_s / done * (total - done)
    text = f"{label} [{'#' * full}{'-' * (WIDTH - full)}] {done}/{total}  {duration(elapsed_s)}"
    return (text + (f", {duration(left_s)} left" if done < total else "")).ljust(79)


def duration(seconds: float) -> str:
    """`48 s`, `3 min 05 s`, `1 h 02 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
