"""The old place of `napari_unet.models.store`, which scripts may name."""

from napari_unet.models.store import ModelStore, ModelVersion

__all__ = ["ModelStore", "ModelVersion"]
