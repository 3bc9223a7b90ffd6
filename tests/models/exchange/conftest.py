import hashlib

import numpy as np
import pydantic
import pytest
import yaml


@pytest.fixture
def bioimageio_core():
    """Skips where the reference implementation of the format is missing, or does not work."""
    pytest.importorskip("bioimageio.core")
    # bioimageio.spec 0.5.12, which bioimageio.core 0.11 asks for, fails with pydantic 2.14.
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 14):
        pytest.skip("bioimageio.spec does not work with this pydantic")


@pytest.fixture
def foreign_zip(tmp_path):
    """Writes the archive of a small network that is not ours: `foreign_zip(change=...)`.

    Where the image, at mean 0 and variance 1, is high, is foreground; where it is higher than
    around, is boundary. `change` gets the description.
    """
    onnx = pytest.importorskip("onnx")
    import zipfile

    def graph(names):
        weights = np.zeros((len(names), 1, 3, 3), np.float32)
        weights[:, 0, 1, 1] = 6
        biases = np.full(len(names), -3, np.float32)
        if len(names) > 1:
            # The foreground less the mean around, as a line in it is dark.
            weights[1] = 1.0
            weights[1, 0, 1, 1] = -8.0
            biases[1] = -4
        nodes = [
            onnx.helper.make_node("Conv", ["raw", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Sigmoid", ["c"], ["p"]),
        ]
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", c, "h", "w"])
            for name, c in (("raw", 1), ("p", len(names)))
        ]
        arrays = [onnx.numpy_helper.from_array(a, n) for a, n in ((weights, "w"), (biases, "b"))]
        made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
        opset = [onnx.helper.make_opsetid("", 17)]
        return onnx.helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()

    def write(name="foreign.zip", names=("foreground", "boundaries"), change=lambda content: None):
        content = graph(names)
        space = [
            {"type": "space", "id": axis, "size": {"min": 16, "step": 16}} for axis in ("y", "x")
        ]
        out = [
            {"type": "space", "id": a, "size": {"tensor_id": "raw", "axis_id": a}, "halo": 4}
            for a in ("y", "x")
        ]
        described = {
            "format_version": "0.5.4",
            "type": "model",
            "name": "Little Net",
            "license": "MIT",
            "inputs": [
                {
                    "id": "raw",
                    "axes": [
                        {"type": "batch"},
                        {"type": "channel", "channel_names": ["dapi"]},
                        *space,
                    ],
                    "preprocessing": [
                        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                        {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},
                    ],
                }
            ],
            "outputs": [
                {
                    "id": "p",
                    "axes": [
                        {"type": "batch"},
                        {"type": "channel", "channel_names": list(names)},
                        *out,
                    ],
                }
            ],
            "weights": {
                "onnx": {
                    "source": "net.onnx",
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "opset_version": 17,
                }
            },
        }
        change(described)
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bioimageio.yaml", yaml.safe_dump(described))
            archive.writestr("net.onnx", content)
        return path

    return write
