"""Archives of bioimage.io whose weights are PyTorch's: used without their code."""

import copy
import hashlib
import io
import os
import pickle
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save as save_safetensors
from torch import nn
from torch.nn import functional as F

from napari_unet.core.network.framed import FramedUNet
from napari_unet.engine.predict import Predictor, foreground_scores
from napari_unet.models.checkpoint import load_model
from napari_unet.models.exchange.older_format import in_new_format
from napari_unet.models.header import ModelFileError
from napari_unet.models.loaded import LoadedModel

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class Pair(nn.Sequential):
    """Two convolutions as they are mostly written, with batch normalisation or without."""

    def __init__(self, n_in, n_out, norm, activation=nn.ReLU):
        def one(n):
            after = [nn.BatchNorm2d(n_out)] if norm else []
            return [nn.Conv2d(n, n_out, 3, padding=1, bias=not norm), *after, activation()]

        super().__init__(*one(n_in), *one(n_out))


class Plain(nn.Module):
    """A padded U-Net of depth 2, as others write it."""

    def __init__(self, norm=True, up="transposed", skip_first=True, activation=nn.ReLU):
        super().__init__()
        self.skip_first, self.way = skip_first, up
        self.inc = Pair(1, 4, norm, activation)
        self.down1, self.down2 = Pair(4, 8, norm, activation), Pair(8, 16, norm, activation)
        if up == "transposed":
            self.up1, self.conv1 = nn.ConvTranspose2d(16, 8, 2, 2), Pair(16, 8, norm, activation)
            self.up2, self.conv2 = nn.ConvTranspose2d(8, 4, 2, 2), Pair(8, 4, norm, activation)
        else:
            self.conv1 = Pair(24, 8, norm, activation)
            self.conv2 = Pair(12, 4, norm, activation)
        self.outc = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        skips = [self.inc(image)]
        skips.append(self.down1(F.max_pool2d(skips[0], 2)))
        x = self.down2(F.max_pool2d(skips[1], 2))
        for n in (1, 2):
            if self.way == "transposed":
                x = getattr(self, f"up{n}")(x)
            else:
                x = F.interpolate(x, scale_factor=2, mode=self.way)
            both = [skips.pop(), x]
            x = getattr(self, f"conv{n}")(torch.cat(both if self.skip_first else both[::-1], 1))
        return self.outc(x).sigmoid()


def random_network(**options):
    torch.manual_seed(0)
    network = Plain(**options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def bytes_of(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def array_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def normalised(image):
    return (image - image.mean()) / (image.std() + 1e-6)


@pytest.fixture
def archive(tmp_path, blobs):
    """Writes an archive with the weights of a network: `archive(network, weights=..., old=...)`."""

    def write(network, weights=None, old=False, names=("foreground", "boundaries")):
        image = np.tile(blobs()[0], (2, 2))[None, None, :128, :128].astype(np.float32)
        with torch.no_grad():
            scores = network(torch.from_numpy(normalised(image))).numpy()
        content = {
            "weights.pt": bytes_of(network.state_dict()) if weights is None else weights,
            "unet.py": b"raise SystemExit('this code must not run')",
            "in.npy": array_bytes(image),
            "out.npy": array_bytes(scores),
        }
        entry = {
            "source": "weights.pt",
            "sha256": hashlib.sha256(content["weights.pt"]).hexdigest(),
        }
        described = {"type": "model", "name": "Plain Net", "license": "MIT"}
        if old:
            described |= {
                "format_version": "0.4.9",
                "inputs": [
                    {
                        "name": "raw",
                        "axes": "bcyx",
                        "data_type": "float32",
                        "shape": {"min": [1, 1, 32, 32], "step": [0, 0, 16, 16]},
                        "preprocessing": [
                            {
                                "name": "zero_mean_unit_variance",
                                "kwargs": {"mode": "per_sample", "axes": "yx"},
                            }
                        ],
                    }
                ],
                "outputs": [
                    {
                        "name": "p",
                        "axes": "bcyx",
                        "data_type": "float32",
                        "halo": [0, 0, 16, 16],
                        "shape": {
                            "reference_tensor": "raw",
                            "scale": [1, len(names), 1, 1],
                            "offset": [0, 0, 0, 0],
                        },
                    }
                ],
                "test_inputs": ["in.npy"],
                "test_outputs": ["out.npy"],
                "weights": {"pytorch_state_dict": entry | {"architecture": "unet.py:Plain"}},
            }
        else:
            size = {"min": 32, "step": 16}
            described |= {
                "format_version": "0.5.3",
                "inputs": [
                    {
                        "id": "raw",
                        "axes": [
                            {"type": "batch"},
                            {"type": "channel", "channel_names": ["dapi"]},
                            *({"type": "space", "id": a, "size": size} for a in "yx"),
                        ],
                        "test_tensor": {"source": "in.npy"},
                        "preprocessing": [
                            {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}
                        ],
                    }
                ],
                "outputs": [
                    {
                        "id": "p",
                        "axes": [
                            {"type": "batch"},
                            {"type": "channel", "channel_names": list(names)},
                            *(
                                {
                                    "type": "space",
                                    "id": a,
                                    "size": {"tensor_id": "raw", "axis_id": a},
                                    "halo": 16,
                                }
                                for a in "yx"
                            ),
                        ],
                        "test_tensor": {"source": "out.npy"},
                    }
                ],
                "weights": {
                    "pytorch_state_dict": entry
                    | {"architecture": {"source": "unet.py", "callable": "Plain"}}
                },
            }
        path = tmp_path / "plain.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("bioimageio.yaml", yaml.safe_dump(described))
            for name, data in content.items():
                file.writestr(name, data)
        return path

    return write


def scores_of(model, image, tile):
    loaded = LoadedModel(*load_model(model.path))
    predictor = Predictor(loaded.network, torch.device("cpu"))
    return foreground_scores(predictor.logits(loaded.prepare(image[None]), tile)[:2])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": False, "skip_first": False},
        {"up": "nearest", "skip_first": False},
        {"up": "bilinear"},
    ],
)
def test_a_plain_unet_gives_its_own_scores_without_its_code(store, archive, blobs, options):
    network = random_network(**options)
    model = store.import_file(archive(network))
    assert model.reference == "plain-net@1"
    assert model.header.foreign["told"].startswith("cells are where 'foreground' is high")
    image = np.tile(blobs()[0], (4, 4)).astype(np.float32)
    with torch.no_grad():
        alone = network(torch.from_numpy(normalised(image))[None, None])[0, 0].numpy()
    inner = (slice(40, -40), slice(40, -40))
    for tile in (220, 400):
        found = scores_of(model, image, tile)
        np.testing.assert_allclose(found[inner], alone[inner], atol=2e-3)
    assert store.find(model).header.licence == "MIT"


def test_an_archive_of_the_older_format(store, archive):
    network = random_network()
    network.outc = nn.Conv2d(4, 1, 1)
    model = store.import_file(archive(network, old=True, names=("channel 0",)))
    assert model.header.foreign["told"] == "cells are where 'channel 0' is high"
    # Without names nobody knows which of two channels is which.
    with pytest.raises(ModelFileError, match="output channels are channel 0, channel 1; one of"):
        store.import_file(archive(random_network(), old=True))


def test_the_older_format_is_translated(archive):
    path = archive(random_network(), old=True, names=("a", "b"))
    with zipfile.ZipFile(path) as file:
        old = yaml.safe_load(file.read("bioimageio.yaml"))
    new = in_new_format(old)
    (given,), (found,) = new["inputs"], new["outputs"]
    assert [axis["type"] for axis in given["axes"]] == ["batch", "channel", "space", "space"]
    assert given["axes"][2]["size"] == {"min": 32, "step": 16}
    assert found["axes"][3] == {
        "type": "space", "id": "x", "halo": 16, "scale": 1,
        "size": {"tensor_id": "raw", "axis_id": "x", "offset": 0},
    }  # fmt: skip
    assert found["axes"][1]["channel_names"] == ["channel 0", "channel 1"]
    assert in_new_format({"format_version": "0.4.0"}) == {"format_version": "0.4.0"}
    # What is out of bounds is left as it is.
    for place, values in (
        ("scale", [1, 10**9, 1, 1]),
        ("scale", [1, 1, 0, 0]),
        ("offset", [0.0, np.inf, 0, 0]),
    ):
        strange = copy.deepcopy(old)
        strange["outputs"][0]["shape"][place] = values
        assert in_new_format(strange) == strange


def test_our_own_network_trained_further_elsewhere_is_a_model_like_any_other(
    store, add_model, tmp_path
):
    model = add_model("cells", depth=2)
    path = store.export(model, tmp_path / "cells.zip")
    with zipfile.ZipFile(path) as file:
        files = {name: file.read(name) for name in file.namelist()}
    described = yaml.safe_load(files["bioimageio.yaml"])
    network = FramedUNet(**model.header.architecture)
    state = torch.load(io.BytesIO(files["weights.pt"]), weights_only=True)
    state["head.bias"] += 0.5 * torch.arange(2)
    network.load_state_dict(state)
    # The picture of the archive, as its description says that it is normalised.
    image = np.load(io.BytesIO(files["test_input.npy"]))
    low, high = np.percentile(image, [1, 99.8])
    seen = ((image - low) / (high - low + 1e-6)).clip(-1, 2).astype(np.float32)
    with torch.no_grad():
        scores = network.eval()(torch.from_numpy(seen)).numpy()
    files["test_output.npy"] = array_bytes(scores)
    files["weights.pt"] = save_safetensors(state)
    described["weights"] = {"pytorch_state_dict": {"source": "weights.pt"}}
    described["outputs"][0]["test_tensor"] = {"source": "test_output.npy"}

    def write():
        files["bioimageio.yaml"] = yaml.safe_dump(described).encode()
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
        return tmp_path / "new.zip"

    back = store.import_file(write(), "back")
    assert not back.header.foreign
    found, known = dict(back.header.architecture), dict(model.header.architecture)
    # How it was trained is not in the weights.
    del found["dropout"], known["dropout"]
    assert found == known
    assert back.header.classes == ("background", "cell")
    found = load_model(back.path)[0].state_dict()
    for name, weights in state.items():
        torch.testing.assert_close(found[name], weights)
    # It can be taught on.
    assert store.find_to_train("back").reference == back.reference
    files["test_output.npy"] = array_bytes(scores * 0.9)
    with pytest.raises(ModelFileError, match="are not those of a plain U-Net"):
        store.import_file(write())


class Command:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (lambda n: pickle.dumps(Command()), "hold more than tensors, and nothing in them is exec"),
        (lambda n: bytes_of({"a": Command()}), "hold more than tensors"),
        (lambda n: bytes_of(n), "hold more than tensors"),
        (lambda n: b"rubbish", "cannot be read"),
        (lambda n: bytes_of([1, 2]), "they are no table of tensors"),
        (lambda n: bytes_of({}), "they are no table of tensors"),
        (lambda n: bytes_of({"w": torch.zeros(1).expand(10**6, 10**6)}), "more numbers than byt"),
        (lambda n: bytes_of({"w": torch.full((3,), torch.nan)}), "NaN or inf"),
        (lambda n: bytes_of({"w.weight": torch.zeros(3)}), "are not those of a plain U-Net"),
        (
            lambda n: bytes_of(n.state_dict() | {"inc.1.running_mean": torch.zeros(9)}),
            "are not those of a plain U-Net",
        ),
        (
            lambda n: bytes_of({k: v for k, v in n.state_dict().items() if "up1" not in k}),
            "are not those of a plain U-Net",
        ),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_used(store, archive, monkeypatch, tmp_path, weights, why):
    monkeypatch.chdir(tmp_path)
    network = random_network()
    with pytest.raises(ModelFileError, match=why) as caught:
        store.import_file(archive(network, weights(network)))
    assert "add ONNX weights with bioimageio add-weights" in str(caught.value)
    assert not (tmp_path / "hacked").exists()
    assert store.names() == []


def test_a_network_that_only_looks_like_one_is_refused(store, archive):
    """Its shapes fit, its scores do not."""
    with pytest.raises(ModelFileError, match="not those of a plain U-Net"):
        store.import_file(archive(random_network(activation=partial(nn.LeakyReLU, 0.2))))
    wrapped = random_network()
    inside = {"module." + name: t for name, t in wrapped.state_dict().items()}
    assert store.import_file(archive(wrapped, bytes_of({"epoch": 3, "state_dict": inside})))
