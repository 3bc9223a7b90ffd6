"""Models from archives: those that this program wrote, and foreign ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from napari_unet.core.json_types import JsonMapping
from napari_unet.models.exchange.archive_files import Archive, open_archive, read_checked
from napari_unet.models.exchange.description import CONFIG
from napari_unet.models.exchange.foreign import foreign_header
from napari_unet.models.exchange.older_format import in_new_format
from napari_unet.models.header_rules import SUFFIX


@contextmanager
def model_file_of(path: Path) -> Iterator[Path]:
    """Give the model file of an archive; it is deleted at the end of the block.

    Of an archive that this program wrote, it is the model file in it, with its whole header. Of
    another one it holds the ONNX graph, or, where the weights are those of a U-Net of this program,
    that. Python code in an archive is never run.

    Raises
    ------
    ModelFileError
        If it is no model, is broken, or is of a kind that cannot be used; says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"model{SUFFIX}")
        with open_archive(path) as (archive, described):
            own = _own_file(archive, described)
            if own is not None:
                target.write_bytes(own)
            else:
                _write_foreign(target, path, archive, described)
        yield target


def _own_file(archive: Archive, described: Mapping[str, object]) -> bytes | None:
    """Return this program's model file, if it still stands for the weights beside it."""
    ours = _table(_table(described.get("config")).get(CONFIG))
    name, hashes = ours.get("model"), ours.get("weights")
    if not isinstance(name, str) or not isinstance(hashes, list) or not archive.has(name):
        return None
    sources = (_table(w).get("source") for w in _table(described.get("weights")).values())
    files = [archive.read(s) for s in sources if isinstance(s, str) and archive.has(s)]
    # Somebody may have trained the weights further, and packed them again.
    if not files or any(sha256(content).hexdigest() not in hashes for content in files):
        return None
    return archive.read(name)


def _write_foreign(
    target: Path, path: Path, archive: Archive, described: Mapping[str, object]
) -> None:
    from napari_unet.models.exchange.onnx_network import save_foreign

    described = in_new_format(described)
    header = foreign_header(path, described)
    entry = _table(described.get("weights")).get("onnx")
    if entry is None:
        from napari_unet.models.exchange.state_dicts import write_from_state_dict

        write_from_state_dict(target, path, archive, described, header)
        return
    save_foreign(target, read_checked(archive, entry, f"{path}: its ONNX weights"), header)


def _table(value: object) -> JsonMapping:
    return value if isinstance(value, Mapping) else {}
