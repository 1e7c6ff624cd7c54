"""Peak memory of a piece of work, and work in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
STATUS = Path("/proc/self/status")


class Peak:
    """What was resident at the peak, in MiB, and how much of it came since; NaN if not Linux."""

    resident: float = float("nan")
    mb: float = float("nan")


@contextmanager
def measure_peak() -> Iterator[Peak]:
    """Measure the block; the peak is known when it ends."""
    peak = Peak()
    if not STATUS.exists():
        yield peak
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _read_kilobytes("VmRSS")
    yield peak
    peak.resident = _read_kilobytes("VmHWM") / 1024
    peak.mb = peak.resident - before / 1024


def in_fresh_process(function: Callable[..., T], *args: Any) -> T:
    """Call it in a process of its own, so that memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _read_kilobytes(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])
