"""Plain U-Nets of others, from their PyTorch weights alone: no code of others is run.

A plain U-Net has two 3x3 convolutions with ReLU on each level, 2x2 max-pooling, up-convolutions of
2x2 (or upsampling) and a 1x1 convolution at the end; batch normalisation may follow each 3x3
convolution. Shapes do not tell everything, so the network is built in each way that is usual, and
the one is taken that gives the test output of its own archive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.models.exchange.packages import needed

Weights = NDArray[np.float32]
# The opset and the file format that came with it, as in `onnx_graph`.
_OPSET, _IR = 17, 8
# Of batch normalisation in PyTorch.
_EPS = 1e-5
# How far scores may be from those of the archive, which another device may have computed.
CLOSE = 1e-3


@dataclass(frozen=True)
class PlainUNet:
    """The layers of a U-Net in the order of the forward pass; each is its weight and bias.

    Attributes
    ----------
    down
        Two 3x3 convolutions for each level, from the first one down.
    up
        For each level from the second last one up: its up-convolution, None for upsampling, and
        two 3x3 convolutions.
    head
        The 1x1 convolution.
    """

    down: Sequence[Sequence[tuple[Weights, Weights]]]
    up: Sequence[Sequence[tuple[Weights, Weights] | None]]
    head: tuple[Weights, Weights]

    @property
    def depth(self) -> int:
        """Number of poolings."""
        return len(self.up)


def plain_unet(state: Mapping[str, Weights]) -> PlainUNet | None:
    """Return the layers of a plain U-Net; None if these weights are another network's.

    Parameters
    ----------
    state
        The weights by name, in the order in which the network was put together.
    """
    modules: dict[str, dict[str, Weights]] = {}
    for name, values in state.items():
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = values
    layers: list[tuple[Weights, Weights]] = []
    for parts in modules.values():
        weight = parts.get("weight")
        if weight is None:
            return None
        if "running_mean" in parts and layers:
            layers[-1] = _folded(*layers[-1], parts)
        elif weight.ndim == 4 and weight.shape[2] == weight.shape[3]:
            n_out = weight.shape[1] if weight.shape[2] == 2 else weight.shape[0]
            bias = parts.get("bias", np.zeros(n_out))
            layers.append((weight.astype(np.float32), bias.astype(np.float32)))
        else:
            return None
    kinds = "".join(str(weight.shape[2]) for weight, _ in layers)
    found = re.fullmatch("((?:33)+?)((?:233)*)1", kinds)
    if found is None:
        return None
    n_down, n_up = len(found[1]) // 2, len(found[2]) // 3
    if not n_up and n_down % 2 and n_down > 1:
        # Nothing is learnt where it is upsampled.
        n_down, n_up = n_down // 2 + 1, n_down // 2
        up = [(None, *layers[at : at + 2]) for at in range(2 * n_down, len(layers) - 1, 2)]
    else:
        up = [tuple(layers[at : at + 3]) for at in range(2 * n_down, len(layers) - 1, 3)]
    if n_down != n_up + 1 or not n_up:
        return None
    down = [layers[at : at + 2] for at in range(0, 2 * n_down, 2)]
    return PlainUNet(down, up, layers[-1])


def graph_of(
    network: PlainUNet, image: NDArray[np.float32], expected: NDArray[np.float32]
) -> bytes | None:
    """Return a network as the content of an ONNX file; None if none gives what is expected.

    The output of the graph are the scores, after softmax or sigmoid.

    Parameters
    ----------
    network
        The layers.
    image
        Normalised, (1, C, Y, X).
    expected
        The scores for it, (1, outputs, Y, X).
    """
    runtime = needed("onnxruntime", "a model of another program")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    ways = ("",) if network.up[0][0] is not None else ("nearest", "linear")
    for way, skip_first, end in product(ways, (True, False), ("", "Sigmoid", "Softmax")):
        content = _Graph(network, way, skip_first, end).content
        try:
            session = runtime.InferenceSession(content, options, ["CPUExecutionProvider"])
            (found,) = session.run(None, {"input": image})
        except Exception:
            # onnxruntime has exceptions of its own: the sizes of the layers do not fit.
            return None
        if found.shape == expected.shape and np.allclose(found, expected, 0, CLOSE):
            return content
    return None


def _folded(weight: Weights, bias: Weights, norm: Mapping[str, Weights]) -> tuple[Weights, Weights]:
    """Return a convolution with the batch normalisation that follows it."""
    factor = norm["weight"] / np.sqrt(norm["running_var"] + _EPS)
    shift = norm["bias"] - norm["running_mean"] * factor
    scaled = weight * factor[:, None, None, None]
    return scaled.astype(np.float32), (bias * factor + shift).astype(np.float32)


class _Graph:
    """A U-Net as the content of an ONNX file."""

    def __init__(self, network: PlainUNet, way: str, skip_first: bool, end: str) -> None:
        onnx = needed("onnx", "a model of another program with PyTorch weights")
        self._onnx, self._nodes, self._constants = onnx, [], []  # type: ignore[var-annotated]
        skips = []
        x = "input"
        for level, convolutions in enumerate(network.down):
            if level:
                x = self._add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
            x = self._convolved(x, convolutions)
            skips.append(x)
        skips.pop()
        for up, *pair in network.up:
            if up is None:
                x = self._upsampled(x, way)
            else:
                x = self._layer("ConvTranspose", x, up, strides=[2, 2])
            joined = [skips.pop(), x] if skip_first else [x, skips.pop()]
            x = self._convolved(self._add("Concat", joined, axis=1), pair)
        x = self._layer("Conv", x, network.head)
        if end:
            x = self._add(end, [x], **({"axis": 1} if end == "Softmax" else {}))
        helper, floats = onnx.helper, onnx.TensorProto.FLOAT
        channels = network.down[0][0][0].shape[1], network.head[0].shape[0]
        ends = [
            helper.make_tensor_value_info(name, floats, ["batch", n, "y", "x"])
            for name, n in zip(("input", x), channels, strict=True)
        ]
        graph = helper.make_graph(self._nodes, "unet", ends[:1], ends[1:], self._constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR)
        self.content: bytes = model.SerializeToString()

    def _convolved(self, x: str, pair: Sequence[Any]) -> str:
        for weights in pair:
            x = self._add("Relu", [self._layer("Conv", x, weights, pads=[1, 1, 1, 1])])
        return x

    def _upsampled(self, x: str, way: str) -> str:
        scales = self._constant(np.array([1, 1, 2, 2], np.float32))
        mode = {"coordinate_transformation_mode": "half_pixel", "mode": way}
        return self._add("Resize", [x, "", scales], **mode)

    def _layer(self, kind: str, x: str, weights: tuple[Weights, Weights], **more: object) -> str:
        return self._add(kind, [x, *map(self._constant, weights)], **more)

    def _add(self, kind: str, inputs: Sequence[str], **attributes: object) -> str:
        output = f"{kind.lower()}.{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, values: Weights) -> str:
        name = f"weights.{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name
