"""An exported model, as the reference implementation of the bioimage.io format sees it."""

import os
import subprocess
import sys
import zipfile

import imageio.v3 as iio
import numpy as np
import pytest
import yaml

from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import ModelFileError
from napari_unet.models.store import ModelStore

pytest.importorskip("onnx")


def run(code, *arguments):
    """Run Python in a process of its own: bioimageio.core logs, and keeps what it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "BIOIMAGEIO_PERFORM_IO_CHECKS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Tests archives, and computes the scores of an image in blocks with another one.
CODE = """
import sys
import numpy as np
from bioimageio.core import (
    Sample, Tensor, create_prediction_pipeline, load_model_description, test_description,
)
image, scores, blocks, *paths = sys.argv[1:]
for path in paths:
    summary = test_description(path)
    print(summary.status, [e.msg for d in summary.details for e in d.errors])
image = Tensor(np.load(image)[None], dims=("batch", "channel", "y", "x"))
sample = Sample(members={"input": image}, stat={}, id="image")
with create_prediction_pipeline(load_model_description(blocks), weight_format="onnx") as pipeline:
    found = pipeline.predict_sample_with_blocking(sample, ns=3)
np.save(scores, np.asarray(found.members["scores"].data)[0])
"""


@pytest.mark.slow
@pytest.mark.usefixtures("bioimageio_core")
def test_bioimageio_core_passes_it_and_its_blocks_give_our_scores(
    tmp_path, write_model, blobs, monkeypatch
):
    """`bioimageio test`: the format, both kinds of weights, several sizes and batches."""
    import torch

    from napari_unet.engine.predict import Predictor, foreground_scores
    from napari_unet.models.loaded import LoadedModel

    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "models"))
    store = ModelStore()
    store.add("stack", lambda path: write_model(path, name="stack", depth=2, z_depth=1))
    model = store.add("cells", lambda path: write_model(path, name="cells", depth=3, in_channels=2))
    image = np.stack(2 * [np.tile(blobs()[0], (4, 3))[:271, :231]]).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    blocks, *paths = (
        store.export(name, tmp_path / f"{name}.zip") for name in ("cells", "nuclei", "stack")
    )
    told = run(CODE, tmp_path / "image.npy", tmp_path / "scores.npy", blocks, *paths)
    assert told.splitlines()[-2:] == ["passed []", "passed []"]

    theirs = np.load(tmp_path / "scores.npy")
    loaded = LoadedModel(*load_model(model.path))
    logits = Predictor(loaded.network, torch.device("cpu")).logits(loaded.prepare(image), 300)
    ours = foreground_scores(logits)
    assert theirs.shape == (2, 271, 231)
    # They mirror the edge with its pixels, we without.
    inner = (slice(48, -48), slice(48, -48))
    np.testing.assert_allclose(theirs[1][inner], ours[inner], rtol=1e-3, atol=1e-3)


def test_what_is_in_an_archive(store, add_model, tmp_path):
    model = add_model("my.cells", classes=("background", "round", "long"), licence="CC0-1.0")
    path = store.export(model, tmp_path, form="bioimageio")
    assert path.name == "my.cells.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    described = yaml.safe_load(files["bioimageio.yaml"])
    assert (described["name"], described["license"]) == ("my_cells (napari-unet)", "CC0-1.0")
    assert described["outputs"][0]["axes"][1]["channel_names"] == ["background", "round", "long"]
    # At depth 1: 2 b px, of which 12 px are to be cropped on each side.
    (_, _, y_in, _), (_, _, y_out, _) = (described[k][0]["axes"] for k in ("inputs", "outputs"))
    assert y_in["size"] == {"min": 26, "step": 2}
    assert y_out == {
        "type": "space",
        "id": "y",
        "size": {"tensor_id": "input", "axis_id": "y"},
        "halo": 12,
    }
    cover = iio.imread(files["cover.png"])
    assert cover.shape == (256, 512, 3)
    text = files["README.md"].decode()
    for words in ("cells in microscope images, of the classes round, long", "## Validation"):
        assert words in text
    assert files["my.cells.safetensors"] == model.path.read_bytes()


@pytest.mark.slow
def test_the_source_in_an_archive_stands_alone(store, add_model, tmp_path):
    path = store.export(add_model("cells", depth=2), tmp_path / "cells.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    code = """
import sys, yaml, numpy as np, torch
sys.path.insert(0, "")
from unet import FramedUNet
described = yaml.safe_load(open("bioimageio.yaml"))
kwargs = described["weights"]["pytorch_state_dict"]["architecture"]["kwargs"]
network = FramedUNet(**kwargs)
network.load_state_dict(torch.load("weights.pt", weights_only=True))
image = torch.from_numpy(np.load("test_input.npy"))
low, high = np.percentile(image[0, 0], [1, 99.8])
seen = ((image - low) / (high - low)).clamp(-1, 2)
with torch.no_grad():
    print(np.abs(network.eval()(seen) - np.load("test_output.npy")).max().item())
print("napari_unet" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    difference, loaded = done.stdout.split()
    assert float(difference) < 1e-5
    assert loaded == "False"


def test_what_is_there_is_replaced_only_if_it_is_a_model(store, add_model, tmp_path):
    model = add_model("cells")
    for name in ("m.onnx", "m.zip"):
        path = tmp_path / name
        store.export(model, path)
        store.export(model, path)
        path.write_text("mine")
        with pytest.raises(ModelFileError, match=f"{name} is there already and is no model"):
            store.export(model, path)
        assert path.read_text() == "mine"
    with pytest.raises(ModelFileError, match=r"ends like a file of the format onnx, and bioimage"):
        store.export(model, tmp_path / "x.onnx", form="bioimageio")
