"""Settings of the dock that most people never touch."""

from __future__ import annotations

from pathlib import Path

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    PushButton,
    SpinBox,
)
from magicgui.widgets.bases import Widget
from superqt import QCollapsible

from napari_unet.config import FinetuneConfig, PredictConfig

# The model file decides where a setting stands at this value.
_MODEL_DECIDES = 0


class Advanced(QCollapsible):
    """The settings, folded away at first."""

    def __init__(self) -> None:
        super().__init__("Advanced")
        self.all_planes = CheckBox(text="Segment all planes of a stack")
        self.threshold = FloatSlider(
            label="Cell threshold",
            min=0.0,
            max=0.95,
            step=0.05,
            value=_MODEL_DECIDES,
            tooltip="Score above which a pixel belongs to a cell; 0: as the model says",
        )
        self.min_size = SpinBox(
            label="Smallest cell (px)",
            min=0,
            max=100_000,
            value=_MODEL_DECIDES,
            tooltip="Cells of fewer pixels are dropped; 0: as the model says",
        )
        self.diameter = SpinBox(
            label="Cell diameter (px)",
            min=0,
            max=5_000,
            value=_MODEL_DECIDES,
            tooltip="Size of this image's cells; 0: as the model says, and for fine-tuning "
            "as measured on the corrected cells",
        )
        self.guess = PushButton(
            text="Guess the diameter", tooltip="Look at the plane in view at several sizes"
        )
        self.device = ComboBox(label="Compute on", choices=["auto", "cpu", "cuda", "mps"])
        self.server = FileEdit(
            label="Server",
            nullable=True,
            filter="*.json",
            tooltip="The file that napari-unet serve wrote: Segment, Fine-tune and Guess work "
            "there; empty: on this computer",
        )
        self.precision = ComboBox(label="Precision", choices=["auto", "float32", "bfloat16"])
        self.ring = SpinBox(
            label="Ring (px)",
            min=0,
            max=100,
            value=8,
            tooltip="Around a corrected cell, this far counts as looked at",
        )
        self.seed = SpinBox(label="Seed", min=0, max=2**31 - 1, value=0)
        self.preview = PushButton(
            text="Show the augmentation", tooltip="Add layers with what fine-tuning draws"
        )
        self.revert = PushButton(
            text="Go back to the earlier model", tooltip="Undo the last fine-tune of this model"
        )
        fields: Container[Widget] = Container(
            widgets=[
                self.all_planes,
                self.diameter,
                self.guess,
                self.threshold,
                self.min_size,
                self.device,
                self.server,
                self.precision,
                self.ring,
                self.seed,
                self.preview,
                self.revert,
            ]
        )
        self.addWidget(fields.native)

    def server_file(self) -> Path | None:
        """The file of a server's credentials; None for this computer."""
        chosen = self.server.value
        return chosen if isinstance(chosen, Path) else None

    def predict_config(self) -> PredictConfig:
        """How to segment."""
        return PredictConfig(
            device=self.device.value,
            precision=self.precision.value,
            threshold=self.threshold.value or None,
            min_size_px=self.min_size.value or None,
            diameter_px=float(self.diameter.value) or None,
        )

    def finetune_config(self, seconds: float) -> FinetuneConfig:
        """How to fine-tune for so many seconds."""
        return FinetuneConfig(
            seconds=seconds,
            device=self.device.value,
            precision=self.precision.value,
            seed=self.seed.value,
            diameter_px=float(self.diameter.value) or None,
        )
