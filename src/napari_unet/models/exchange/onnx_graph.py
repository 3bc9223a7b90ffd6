"""A U-Net as an ONNX graph, for any batch and any valid size of the image.

The graph is written layer by layer, not traced: all sizes but those of the image are constants of
the architecture, so nothing has to be guessed from an example.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.network.framed import LESS_PX
from napari_unet.core.network.unet import UNet, halo_px
from napari_unet.core.tiling import smallest_input_px
from napari_unet.models.exchange.packages import needed
from napari_unet.models.header import ModelHeader

# The lowest opset that other programs are asked to know, and the file format that came with it.
OPSET, _IR = 17, 8
INPUT, OUTPUT = "input", "scores"
_TO_THE_END = np.iinfo(np.int64).max


def onnx_bytes(network: UNet, header: ModelHeader, *, framed: bool = False) -> bytes:
    """Return a network as the content of an ONNX file.

    Its input is (N, C, Y, X) float32, normalised; its output the scores: the probability of each
    class, and the relative distance if the network has one. Those of a network of stacks have a Z
    before Y. The sizes are those of `core.network.unet`.

    Parameters
    ----------
    network
        The network.
    header
        Its header, which is stored as an entry of the metadata.
    framed
        Whether the output is as large as the input, with 0 in its outer pixels
        (`core.network.framed`); otherwise it is smaller by the halo on each side.

    Raises
    ------
    ModelFileError
        If the package onnx is not installed.
    """
    onnx = needed("onnx", "a model as ONNX")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = _Graph(network, onnx)
    graph.build(framed)
    config = network.config
    axes = "zyx"[-len(config.depths) :]
    given = ["batch", config.in_channels, *axes]
    # The sizes of an output that is smaller have names of their own.
    found = ["batch", config.n_outputs, *(a if framed else f"{a}_out" for a in axes)]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "unet",
            [helper.make_tensor_value_info(INPUT, floats, given)],
            [helper.make_tensor_value_info(OUTPUT, floats, found)],
            graph.constants,
            doc_string="" if framed else _doc(network, header),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR,
        producer_name="napari-unet",
    )
    names = json.dumps(output_names(network, header))
    helper.set_model_props(model, {**header.to_metadata(), "channels": names})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def output_names(network: UNet, header: ModelHeader) -> list[str]:
    """Return the name of each channel of the scores: the classes, then "distance"."""
    return [*header.classes, *["distance"] * network.config.distance]


def _doc(network: UNet, header: ModelHeader) -> str:
    depths = network.config.depths
    sizes = "; ".join(
        f"{axis}: {2**depth} b + {4 * (2**depth - 1)} px with b of 8 or more, and "
        f"{2 * halo_px(depth)} px fewer come out"
        for axis, depth in zip("zyx"[-len(depths) :], depths, strict=True)
    )
    low, high, clip = (header.normalisation.get(k, v) for k, v in _NORMALISATION.items())
    return (
        f"Normalise each channel so that its percentiles {low:g} and {high:g} become 0 and 1, and "
        f"clip to [{-clip:g}, {1 + clip:g}]. Valid sizes: {sizes}."
    )


_NORMALISATION = {"low": 1.0, "high": 99.8, "clip": 1.0}


class _Graph:
    """The nodes and constants of a graph, written in the order of `UNet.forward`."""

    def __init__(self, network: UNet, onnx: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._onnx, self._network = onnx, network
        self._weights = {name: t.float().numpy() for name, t in network.state_dict().items()}
        # (Z,) Y and X of a valid image, followed through the graph: crops are differences of sizes
        # and so the same for every image.
        self._sizes: dict[str, list[int]] = {}

    def build(self, framed: bool) -> None:
        config = self._network.config
        skips: list[str] = []
        x = self._without_first() if framed else INPUT
        self._sizes[x] = [smallest_input_px(depth) for depth in config.depths]
        for level in range(config.depth + 1):
            if level:
                step = self._network._steps[level - 1]
                x = self._add("MaxPool", [x], kernel_shape=step, strides=step)
                self._sizes[x] = [n // s for n, s in zip(self._sizes[skips[-1]], step, strict=True)]
            x = self._convolve_twice(x, f"down.{level}")
            skips.append(x)
        skips.pop()
        for level in range(config.depth):
            step = self._network._steps[config.depth - 1 - level]
            before = self._sizes[x]
            x = self._layer("ConvTranspose", x, f"up.{level}", strides=step)
            self._sizes[x] = [n * s for n, s in zip(before, step, strict=True)]
            joined = self._add("Concat", [self._crop(skips.pop(), x), x], axis=1)
            self._sizes[joined] = self._sizes[x]
            x = self._convolve_twice(joined, f"join.{level}")
        x = self._layer("Conv", x, "head")
        self._end(x, framed)

    def _end(self, logits: str, framed: bool) -> None:
        config = self._network.config
        last = [] if framed else [OUTPUT]
        if config.distance:
            parts = ["classes", "distance"]
            sizes = self._constant("split", np.array([config.n_classes, 1], np.int64))
            self.nodes.append(self._onnx.helper.make_node("Split", [logits, sizes], parts, axis=1))
            found = [self._add("Softmax", parts[:1], axis=1), self._add("Sigmoid", parts[1:])]
            scores = self._add("Concat", found, *last, axis=1)
        else:
            scores = self._add("Softmax", [logits], *last, axis=1)
        if framed:
            halos = [halo_px(depth) for depth in config.depths]
            before = [LESS_PX + halo for halo in halos]
            pads = self._constant("pads", np.array([0, 0, *before, 0, 0, *halos], np.int64))
            self._add("Pad", [scores, pads], OUTPUT, mode="constant")

    def _convolve_twice(self, x: str, name: str) -> str:
        for place in (0, 2):
            before = self._sizes[x]
            kernel = self._weights[f"{name}.{place}.weight"].shape[2:]
            x = self._add("Relu", [self._layer("Conv", x, f"{name}.{place}")])
            self._sizes[x] = [n - k + 1 for n, k in zip(before, kernel, strict=True)]
        return x

    def _without_first(self) -> str:
        n_axes = len(self._network.config.depths)
        return self._slice(INPUT, np.full(n_axes, LESS_PX), np.full(n_axes, _TO_THE_END))

    def _crop(self, skip: str, to: str) -> str:
        sizes = zip(self._sizes[skip], self._sizes[to], strict=True)
        edges = np.array([(large - small) // 2 for large, small in sizes])
        # An end of 0 would mean the first pixel.
        return self._slice(skip, edges, np.where(edges, -edges, _TO_THE_END))

    def _slice(self, x: str, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> str:
        parts = {"starts": starts, "stops": stops, "axes": np.arange(2, 2 + len(starts))}
        names = [self._constant(f"{x}.{name}", values) for name, values in parts.items()]
        return self._add("Slice", [x, *names])

    def _layer(self, kind: str, x: str, name: str, **attributes: Any) -> str:
        weights = [
            self._constant(f"{name}.{part}", self._weights[f"{name}.{part}"])
            for part in ("weight", "bias")
        ]
        return self._add(kind, [x, *weights], **attributes)

    def _add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name
