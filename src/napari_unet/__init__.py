"""Interactive cell segmentation in napari with the 2015 U-Net: segment, correct, fine-tune.

The public names load on first use, so that importing the package stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.api import (
        export_labels,
        export_model,
        finetune,
        import_model,
        load_model,
        measure,
        read_labels,
        segment,
    )
    from napari_unet.config import FinetuneConfig, PredictConfig

    __version__: str

__all__ = [
    "FinetuneConfig",
    "PredictConfig",
    "export_labels",
    "export_model",
    "finetune",
    "import_model",
    "load_model",
    "measure",
    "read_labels",
    "segment",
]

_HOMES = {
    "FinetuneConfig": "napari_unet.config",
    "PredictConfig": "napari_unet.config",
    "export_labels": "napari_unet.api",
    "export_model": "napari_unet.api",
    "finetune": "napari_unet.api",
    "import_model": "napari_unet.api",
    "load_model": "napari_unet.api",
    "measure": "napari_unet.api",
    "read_labels": "napari_unet.api",
    "segment": "napari_unet.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("napari-unet")
        except PackageNotFoundError:
            return version("napari-unet-client")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
