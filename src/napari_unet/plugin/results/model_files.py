"""A model file that is dropped onto napari is added to the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from psygnal import Signal

from napari_unet.jobs import log_failure, sentence
from napari_unet.models.store import ModelStore, ModelVersion

# What a reader gives that adds no layer.
NoLayer = list[tuple[None]]


class Imported:
    """Tells docks, in the main thread, that a model came: NAME@VERSION."""

    came = Signal(str)


IMPORTED = Imported()


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], NoLayer] | None:
    """The reader of model files that napari asks for; None for other files."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or any(Path(name).suffix.lower() != ".safetensors" for name in paths):
        return None
    return read


def read(path: str | Sequence[str]) -> NoLayer:
    """Add model files to the models, in a thread; napari's notification tells what came of it.

    Each is checked as a stranger's: what is no model, or a broken one, is refused.
    """
    for name in [path] if isinstance(path, str) else path:
        worker = create_worker(_add, Path(name))
        worker.returned.connect(_tell)
        worker.start()
    return [(None,)]


def _add(path: Path) -> ModelVersion | str:
    """The new version, or a sentence that says why there is none."""
    try:
        return ModelStore().import_file(path)
    except Exception as error:
        log_failure(f"the import of {path.name}", error)
        return sentence(error)


def _tell(came: ModelVersion | str) -> None:
    if isinstance(came, str):
        show_error(came)
        return
    show_info(f"the model {came.reference} was added; choose it in the dock, under Model")
    IMPORTED.came.emit(came.reference)
