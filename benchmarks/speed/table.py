"""A row of the table, how it is printed, and works that are timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]
HEAD = """\
| what | ours | beside it | | ratio | aim | peak MB: ours, other |
|---|---:|---|---:|---:|---|---|"""
# Begins what a row says that has no figure.
MISSING = "not measured"


@dataclass(frozen=True)
class Row:
    """What was measured, less being better.

    Attributes
    ----------
    what
        What was measured.
    ours
        Seconds, or what `unit` says; None if it could not be measured.
    beside
        What it is compared with.
    other
        The figure of that. The ratio is `other` over `ours`: how many times faster ours is, or its
        share of a ceiling.
    least
        The ratio that is aimed at.
    unit
        Unit of both figures.
    mb, other_mb
        Peak memory of both processes, in MB.
    """

    what: str
    ours: float | None
    beside: str = ""
    other: float | None = None
    least: float | None = None
    unit: str = "s"
    mb: float | None = None
    other_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """`other` over `ours`."""
        if self.ours is None or self.other is None:
            return None
        return self.other / max(self.ours, 1e-9)

    def __str__(self) -> str:
        ratio, aim = self.ratio, ""
        if ratio is not None and self.least is not None:
            aim = f"{self.least:g}: {'holds' if ratio >= self.least else 'short'}"
        memory = ", ".join(f"{mb:.0f}" for mb in (self.mb, self.other_mb) if mb is not None)
        ours, other = (
            "" if n is None else f"{_short(n)} {self.unit}" for n in (self.ours, self.other)
        )
        shown = "" if ratio is None else f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"
        return f"| {self.what} | {ours} | {self.beside} | {other} | {shown} | {aim} | {memory} |"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def medians(runs: int, **works: Work) -> dict[str, float]:
    """Median seconds of each work, all of them in turn, after one round that does not count."""
    return {name: statistics.median(each) for name, each in in_turn(runs, **works).items()}


def in_turn(runs: int, **works: Work) -> dict[str, Sequence[float]]:
    """Seconds of each run of each work, all of them in turn, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for run in range(runs + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            wait()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return dict(seconds)
