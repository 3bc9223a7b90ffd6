"""The old place of `napari_unet.corrections.annotations`, which scripts may name."""

from napari_unet.corrections.annotations import Annotated, Correction, PaintedPlane, annotate

__all__ = ["Annotated", "Correction", "PaintedPlane", "annotate"]
