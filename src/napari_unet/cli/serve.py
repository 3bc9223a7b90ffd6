"""The command `napari-unet serve`: runs jobs for other computers; and who may use the server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from napari_unet.serving.messages import Right
from napari_unet.serving.server.limits import Limits
from napari_unet.serving.server.start import (
    LOOPBACK,
    PORT,
    Settings,
    add_person,
    default_credentials,
    default_folder,
    first_credentials,
    serve,
)


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`, and its commands for people, to its parser."""
    _add_folder(parser)
    parser.add_argument("--host", default=LOOPBACK, help="listen here (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one")
    parser.add_argument("--address", metavar="URL", help="as others reach it (default: host, port)")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="of the first person")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="the site's own, PEM")
    parser.add_argument("--key", type=Path, metavar="FILE", help="of the certificate, PEM")
    parser.add_argument("--no-tls", action="store_true", help="behind a proxy on this computer")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--workers", type=_count, metavar="N", help="default: one for each GPU")
    parser.add_argument("--keep-hours", type=float, default=24.0, metavar="H",
                        help="delete what nobody asked about for so long")  # fmt: skip
    parser.add_argument("--as-root", action="store_true", help="allow to run as root")
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(metavar="COMMAND")

    add = commands.add_parser("add-user", help="let a person use the server, or give a new token")
    _add_person_options(add)
    add.add_argument("--rights", nargs="+", choices=get_args(Right), default=get_args(Right))
    add.add_argument("--days", type=int, default=365, help="until it ends; 0 for never")
    add.add_argument("--address", metavar="URL", help="as this person reaches the server")
    add.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: NAME.json")
    add.set_defaults(run=_add_user)

    remove = commands.add_parser("remove-user", help="end a person's token at once")
    _add_person_options(remove)
    remove.set_defaults(run=_remove_user)

    users = commands.add_parser("users", help="list who may use the server")
    _add_folder(users)
    users.set_defaults(run=_users)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=argparse.SUPPRESS, help="where the server keeps its files"
    )


def _add_person_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    _add_folder(parser)


def _folder(options: argparse.Namespace) -> Path:
    folder: Path = getattr(options, "folder", None) or default_folder()
    return folder.absolute()


def _serve(options: argparse.Namespace) -> int:
    settings = Settings(
        folder=_folder(options),
        host=options.host,
        port=options.port,
        address=options.address,
        certificate=options.certificate,
        key=options.key,
        tls=not options.no_tls,
        device=options.device,
        workers=options.workers,
        as_root=options.as_root,
        limits=Limits(keep_s=options.keep_hours * 3600),
    )
    path = (options.credentials or default_credentials()).absolute()

    def tell(address: str, fingerprint: str) -> None:
        tunnel = ""
        if options.host == LOOPBACK and not options.no_tls:
            port = address.rpartition(":")[2]
            tunnel = f" (from elsewhere: ssh -L {port}:{LOOPBACK}:{port} THIS-COMPUTER)"
        if first_credentials(settings, path):
            what = f"copy {path} to your computer and add it in the dock: More settings, Server"
        else:
            people = ", ".join(settings.people.all())
            what = f"for {people}; napari-unet serve add-user NAME adds others"
        print(f"serving at {address}{tunnel}; {what}", flush=True)
        if fingerprint:
            print(f"certificate, SHA-256: {fingerprint}", flush=True)

    serve(settings, tell)
    return 0


def _add_user(options: argparse.Namespace) -> int:
    path = options.out or Path(f"{options.name}.json")
    settings = Settings(folder=_folder(options), address=options.address)
    add_person(settings, options.name, tuple(options.rights), options.days, path)
    print(f"{path} is for {options.name}: copy it to that person's computer, and delete it here")
    return 0


def _remove_user(options: argparse.Namespace) -> int:
    Settings(folder=_folder(options)).people.remove(options.name)
    print(f"{options.name} can no longer use the server; jobs of {options.name} are ended")
    return 0


def _users(options: argparse.Namespace) -> int:
    for person in Settings(folder=_folder(options)).people.all().values():
        ends = f"until {person.expires[:10]}" if person.expires else "without an end"
        print(f"{person.name:20} {', '.join(person.rights):20} {ends}")
    return 0


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"give 1 to 64, not {text}")
    return value


_count.__name__ = "int"  # argparse shows the name in its error message
