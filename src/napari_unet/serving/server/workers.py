"""The processes that do the jobs, as the server sees them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from napari_unet.config import Device
from napari_unet.core.json_types import JsonObject

Line = JsonObject


class WorkerProcess:
    """A process with one device; see `worker` for what it is told and says.

    All calls and callbacks are made in the thread of the event loop that runs at the start.

    Parameters
    ----------
    number
        Which of the workers it is, from 0: the GPU of this number is its own.
    device
        Where networks run if a client leaves the choice.
    largest
        Largest array, in bytes.
    temporary
        Its folder of temporary files.
    said
        Called with the worker and each line that it says.
    ended
        Called with the worker when its process has ended.
    """

    def __init__(
        self,
        number: int,
        device: Device,
        largest: int,
        temporary: Path,
        said: Callable[[WorkerProcess, Line], None],
        ended: Callable[[WorkerProcess], None],
    ) -> None:
        self.number, self.is_ready = number, False
        self._said, self._ended = said, ended
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_unet.serving.server.worker", device, str(largest)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **_own_gpu(number, os.environ), "TMPDIR": str(temporary)},
        )
        threading.Thread(target=self._read, name=f"worker {number}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def tell(self, **line: object) -> None:
        """Send it a line, unless it has ended."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self, timeout_s: float) -> None:
        """Let the process end, or end it."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for text in lines:
                self._call(self._said, self, json.loads(text))
        self._process.wait()
        self._call(self._ended, self)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(function, *args)


def _own_gpu(number: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a worker sees its own GPU alone; the first one sees all."""
    if number == 0:
        return {}
    known = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return {"CUDA_VISIBLE_DEVICES": known[number] if number < len(known) else str(number)}
