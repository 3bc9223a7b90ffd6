"""The command `napari-unet serve`: runs jobs for other computers."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unet.remote.credentials import Credentials
from napari_unet.remote.server import LOOPBACK, PORT, default_credentials, port_of, serve


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to its parser."""
    parser.add_argument("--host", default=LOOPBACK, help="listen here (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="made if it is missing")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    path = (options.credentials or default_credentials()).absolute()

    def tell(credentials: Credentials) -> None:
        tunnel = ""
        if options.host == LOOPBACK:
            port = port_of(credentials)
            tunnel = f" (from elsewhere: ssh -L {port}:{LOOPBACK}:{port} {credentials.computer})"
        print(
            f"serving at {credentials.address}{tunnel}; copy {path} to your computer and choose it "
            "as Server in the dock, under More settings",
            flush=True,
        )

    serve(path, options.host, options.port, options.device, tell)
    return 0
