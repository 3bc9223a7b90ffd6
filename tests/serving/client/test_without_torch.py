"""The client on a computer without torch: processes in which it cannot be imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import without_torch

pytest.importorskip("uvicorn")

PROGRAM = Path(without_torch.__file__)


@pytest.fixture
def run(models_folder, add_model):
    """Runs a program without torch for a user with a model `tiny`: (status, stdout, stderr)."""
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, PROGRAM, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"NAPARI_UNET_PREFERENCES": str(models_folder.parent / "p.json")},
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


@pytest.mark.slow
def test_the_command_line_segments_and_trains_on_a_server(run, server, blobs, service, tmp_path):
    image, labels = blobs()
    for folder, content in (("images", image), ("labels", labels)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", content)
    picture, out = tmp_path / "images" / "a.tif", tmp_path / "out.tif"
    segment = ("cli", "segment", picture, "-o", out, "--model", "tiny", "--precision", "float32")
    status, _, said = run(*segment)
    assert status == 1
    assert said == (
        f"napari-unet: {picture}: there is no local computing here, since torch is not installed; "
        "choose a server, or install napari-unet in place of napari-unet-client\n"
    )
    assert not out.exists()

    status, told, said = run(*segment, "--server", server.file)
    assert (status, told[-1]) == (0, "False"), said
    from napari_unet import PredictConfig

    here = service.segment(
        image, "YX", "tiny", PredictConfig(device="cpu", precision="float32", diameter_px="auto",
                                           channel="auto"),
    ).wait(60)  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(out), here.labels)

    train = ("cli", "train", "--images", picture.parent, "--labels", tmp_path / "labels")
    status, told, said = run(*train, "--name", "own", "--steps", 2, "--server", server.file)
    assert (status, told[-1]) == (0, "False"), said
    assert told[0].startswith("own@1: 2 steps")
    assert service.store.find("own").header.name == "own"


@pytest.mark.slow
def test_the_dock_segments_and_teaches_on_a_server(run, server):
    status, told, said = run("dock", server.file)
    assert status == 0, (told, said)
    assert told[0] == "no local computing here | no local computing here"
    assert told[1].startswith("⚠ there is no local computing here, since torch is not installed")
    assert told[2].startswith("3 cells")
    assert told[2].endswith(f"on {server.credentials.computer}: CPU")
    assert told[3] == "['tiny@1', 'tiny@2']"
