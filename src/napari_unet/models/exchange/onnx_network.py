"""A foreign network: an ONNX graph that is run like a U-Net of this program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_unet.core.network.framed import LESS_PX
from napari_unet.core.network.unet import UNet, UNetConfig, output_px
from napari_unet.core.tiling import smallest_input_px
from napari_unet.io.atomic import replacing
from napari_unet.models.exchange.packages import needed
from napari_unet.models.header import ModelFileError, ModelHeader

# Name of the array of bytes in a model file that is an ONNX graph.
GRAPH = "onnx"
# Probabilities are kept this far from 0 and 1, whose logits are no numbers.
_LEAST = 1e-6
# How far a probability may be outside [0, 1].
_ROUNDING = 1e-2


class OnnxNetwork(UNet):
    """A foreign network with the inputs and outputs of a `UNet`; it has no weights of its own.

    Parameters
    ----------
    graph
        Content of an ONNX file.
    header
        Header of the model, from `foreign.foreign_header`.

    Raises
    ------
    ModelFileError
        If the graph cannot be run, or is no network as the header describes it.
    """

    def __init__(self, graph: bytes, header: ModelHeader) -> None:
        nn.Module.__init__(self)
        self.config = UNetConfig(**header.architecture)
        # There is nothing of a U-Net in it to be made faster.
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self._foreign = header.foreign
        runtime = needed("onnxruntime", f"the model {header.name}, of another program,")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = runtime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
            self._input = self._session.get_inputs()[0].name
            size = smallest_input_px(self.config.depth)
            self(torch.zeros(1, self.config.in_channels, size, size))
        except Exception as error:
            raise ModelFileError(
                f"the ONNX weights of {header.name} cannot be run: "
                f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"[:400]
            ) from error

    def __deepcopy__(self, memo: dict[int, object]) -> OnnxNetwork:
        # A session cannot be copied, and need not be: nothing changes it.
        return self

    def forward(self, image: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Return logits as `UNet.forward`; for the shapes see there."""
        depth = self.config.depth
        wanted = [output_px(size, depth) for size in image.shape[2:]]
        # With these pixels, sizes and places of tiles are multiples of 2^depth.
        edges = ((0, 0), (0, 0), (LESS_PX, 0), (LESS_PX, 0))
        seen = np.pad(image.float().cpu().numpy(), edges, mode="edge")
        scores = self._session.run(None, {self._input: seen})[0]
        cropped = scores[
            (
                slice(None),
                slice(None),
                # From the middle, for a valid network gives less; the first pixels were added.
                *(
                    slice(start := (n - LESS_PX - size) // 2 + LESS_PX - (n - m) // 2, start + size)
                    for n, m, size in zip(seen.shape[2:], scores.shape[2:], wanted, strict=True)
                ),
            )
        ]
        return torch.from_numpy(self._logits(cropped.astype(np.float32))).to(image.device)

    def _logits(self, scores: NDArray[np.float32]) -> Any:
        foreign = self._foreign
        if foreign["sigmoid"]:
            scores = 1 / (1 + np.exp(-scores.clip(-50, 50)))
        if not (scores.min() >= -_ROUNDING and scores.max() <= 1 + _ROUNDING):
            raise ValueError(
                f"the model gives values from {scores.min():.3g} to {scores.max():.3g}, and "
                "probabilities from 0 to 1 are needed; use it in the program that it is for"
            )
        foreground = scores[:, foreign["foreground"]]
        parts = [np.zeros_like(foreground), _logit(foreground)]
        if self.config.distance:
            parts.append(_logit(foreground * (1 - scores[:, foreign["boundary"]])))
        return np.stack(parts, 1)


def save_foreign(path: Path, graph: bytes, header: ModelHeader) -> None:
    """Write a foreign model as a model file.

    Raises
    ------
    ModelFileError
        If the graph cannot be run, or is no network as the header describes it.
    """
    from safetensors.numpy import save

    OnnxNetwork(graph, header)
    content = save({GRAPH: np.frombuffer(graph, np.uint8)}, metadata=header.to_metadata())
    with replacing(path) as part:
        part.write_bytes(content)


def _logit(
    scores: NDArray[np.float32],
) -> NDArray[np.float32]:
    inside = scores.clip(_LEAST, 1 - _LEAST)
    logits: NDArray[np.float32] = np.log(inside / (1 - inside))
    return logits
