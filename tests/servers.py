"""A server as `napari-unet serve` starts it, in a process of its own on this computer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from napari_unet.cli import main
from napari_unet.serving.credentials import read_credentials

SOON = 120.0


class Server:
    """Runs until `stop`.

    Parameters
    ----------
    folder
        Gets the credentials, what it prints, and the server's own folder.
    options
        More options of `serve`.
    limits
        Fields of `limits.Limits` that are other than usual.
    """

    def __init__(self, folder: Path, *options: object, port: int = 0, **limits: float) -> None:
        folder.mkdir(exist_ok=True)
        self.file, self.log = folder / "server.json", folder / "log.txt"
        self.folder = folder / "server"
        self._options = (
            *("--device", "cpu", "--as-root", "--folder", self.folder),
            *("--credentials", self.file, *options),
        )
        self._limits = limits
        self.restart(port)

    def restart(self, port: int) -> None:
        """Start it, for the first time or after `stop`; port 0 takes a free one."""
        # Other limits than usual have no options: the defaults are changed before the start.
        program = (
            "import sys; from dataclasses import replace\n"
            "from napari_unet.cli import main, serve\n"
            f"limits = serve.Limits; serve.Limits = lambda **k: limits(**(k | {self._limits}))\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", program, "serve"),
                    *map(str, (*self._options, "--port", port)),
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
            time.sleep(0.05)

    @property
    def credentials(self):
        return read_credentials(self.file)

    @property
    def port(self) -> int:
        return int(self.credentials.address.rpartition(":")[2])

    def connect_as_holder(self, file: Path | None = None) -> httpx.Client:
        """A client of HTTP alone, for whoever has these credentials."""
        credentials = read_credentials(file or self.file)
        return httpx.Client(
            base_url=credentials.address,
            verify=credentials.context(),
            headers={"authorization": f"Bearer {credentials.token}"},
            timeout=60.0,
            trust_env=False,
        )

    def command(self, *arguments: object) -> None:
        """Run `napari-unet serve` with a command about people."""
        assert main(["serve", *map(str, arguments), "--folder", str(self.folder)]) == 0

    def add(self, name: str, *options: str) -> Path:
        """Let a person use it; returns the file of credentials."""
        file = self.folder.parent.parent / f"{name}.json"
        self.command("add-user", name, "--out", file, *options)
        return file

    def workers(self) -> list[int]:
        """The process numbers of the workers."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True)
        return [int(pid) for pid in found.stdout.split()]

    def open_files(self) -> int:
        """How many files and connections the process that answers has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory_mb(self) -> float:
        """The memory of the process that answers, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it as a shutdown or Ctrl-C (SIGINT) does; returns its exit status."""
        if self.process.poll() is None:
            # A terminal sends Ctrl-C to all processes, a shutdown tells the first one.
            send = os.killpg if how == signal.SIGINT else os.kill
            send(self.process.pid, how)
        return self.process.wait(SOON)
