"""A server as `napari-unet serve` starts it, in a process of its own on this computer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from napari_unet.remote.credentials import read_credentials

SOON = 120.0


class Server:
    """Runs until `stop`.

    Parameters
    ----------
    folder
        Gets the credentials and what it prints.
    port, host
        Port 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        folder.mkdir(exist_ok=True)
        self.file, self.log = folder / "server.json", folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "napari_unet.cli", "serve", "--device", "cpu"),
                    *("--host", host, "--port", str(port), "--credentials", str(self.file)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # One thread, so that sums are added in the same order here and there.
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        end = time.monotonic() + SOON
        while "serving at" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    @property
    def credentials(self):
        return read_credentials(self.file)

    def ask(self, function, *args, nanny=False):
        """What a function gives in the worker."""
        from distributed import Client

        with Client(
            self.credentials.address, security=self.credentials.security(), set_as_default=False
        ) as client:
            return next(iter(client.run(function, *args, nanny=nanny).values()))

    def addresses(self) -> list[str]:
        """Where the scheduler, the worker and the worker's nanny listen."""
        from distributed import Client

        with Client(
            self.credentials.address, security=self.credentials.security(), set_as_default=False
        ) as client:
            ((worker, facts),) = client.scheduler_info()["workers"].items()
            return [self.credentials.address, worker, facts["nanny"]]

    def stop(self, how=signal.SIGTERM) -> int:
        """End it as a shutdown or Ctrl-C (SIGINT) does; returns its exit status."""
        if self.process.poll() is None:
            # A terminal sends Ctrl-C to all processes, a shutdown tells the first one.
            send = os.killpg if how == signal.SIGINT else os.kill
            send(self.process.pid, how)
        return self.process.wait(SOON)
