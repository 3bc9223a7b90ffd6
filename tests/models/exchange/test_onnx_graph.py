import json

import numpy as np
import pytest
import torch

from napari_unet.core.network.framed import FramedUNet
from napari_unet.core.network.unet import UNet, UNetConfig, halo_px, initialise
from napari_unet.core.tiling import smallest_input_px
from napari_unet.models.checkpoint import architecture
from napari_unet.models.exchange.onnx_graph import onnx_bytes
from napari_unet.models.header import ModelFileError, ModelHeader

CONFIGS = {
    "planes": UNetConfig(depth=3, width=2, in_channels=3, distance=True),
    "classes": UNetConfig(depth=2, width=2, n_classes=4, distance=True),
    "stacks": UNetConfig(depth=2, width=2, z_depth=1),
    "stacks of planes": UNetConfig(depth=1, width=2, z_depth=0, n_classes=3),
}


def made(config):
    network = UNet(config).eval()
    initialise(network, 0)
    classes = ("background", *"abc"[: config.n_classes - 1])
    return network, ModelHeader(name="m", architecture={}, classes=classes)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_graph_gives_our_scores_for_any_valid_size_and_batch(config):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network, header = made(config)
    framed = FramedUNet(**architecture(network))
    framed.load_state_dict(network.state_dict())
    for in_frame in (False, True):
        session = runtime.InferenceSession(onnx_bytes(network, header, framed=in_frame))
        for batch, more in ((1, 0), (2, 1)):
            sizes = [smallest_input_px(d) + (4 if in_frame else 0) for d in config.depths]
            sizes[-1] += more * 2**config.depth
            image = np.random.default_rng(0).uniform(-1, 2, (batch, config.in_channels, *sizes))
            image = image.astype(np.float32)
            (found,) = session.run(None, {"input": image})
            with torch.no_grad():
                if in_frame:
                    expected = framed.eval()(torch.from_numpy(image))
                else:
                    logits = network(torch.from_numpy(image))
                    k = config.n_classes
                    parts = logits[:, :k].softmax(1), logits[:, k:].sigmoid()
                    expected = torch.cat(parts, 1)
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-5)
            less = 0 if in_frame else 2
            assert found.shape[2:] == tuple(
                n - less * halo_px(d) for n, d in zip(sizes, config.depths, strict=True)
            )


def test_the_frame_holds_the_scores_of_the_network():
    network, _ = made(CONFIGS["planes"])
    framed = FramedUNet(**architecture(network)).eval()
    framed.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 120, 104)
    with torch.no_grad():
        scores, logits = framed(image), network(image[..., 4:, 4:])
    inner = scores[..., 48:-44, 48:-44]
    torch.testing.assert_close(inner[:, :2], logits[:, :2].softmax(1))
    assert torch.count_nonzero(scores) == torch.count_nonzero(inner)


def test_the_file_says_what_it_is():
    onnx = pytest.importorskip("onnx")
    network, header = made(CONFIGS["classes"])
    model = onnx.load_from_string(onnx_bytes(network, header))
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["channels"] == ["background", "a", "b", "c", "distance"]
    assert told["napari_unet"]["name"] == "m"
    assert model.opset_import[0].version == 17
    assert "y: 4 b + 12 px with b of 8 or more, and 40 px fewer come out" in model.graph.doc_string
    assert "percentiles 1 and 99.8 become 0 and 1, and clip to [-1, 2]" in model.graph.doc_string


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    network, header = made(CONFIGS["stacks"])

    def nothing(name, *arguments, **more):
        raise ImportError(name)

    monkeypatch.setattr("napari_unet.models.exchange.packages.import_module", nothing)
    with pytest.raises(ModelFileError) as caught:
        onnx_bytes(network, header)
    assert str(caught.value) == (
        "a model as ONNX needs the package onnx; pip install 'napari-unet[bioimageio]'"
    )
