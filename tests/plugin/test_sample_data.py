"""Tests for napari_unet.plugin.sample_data."""

import socket
from pathlib import Path

import numpy as np
import pytest
import yaml

import napari_unet
from napari_unet.core.cells.metrics import Scores
from napari_unet.plugin import drawn_images, sample_data

MANIFEST = yaml.safe_load(Path(napari_unet.__file__).with_name("napari.yaml").read_text("utf-8"))
SAMPLES = {
    command["title"]: command["python_name"].split(":")[1]
    for command in MANIFEST["contributions"]["commands"]
    if "plugin.sample_data:" in command["python_name"]
}


def test_no_sample_needs_the_internet(monkeypatch):
    def refuse(*_):
        raise OSError("no connection to the internet")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(SAMPLES) == len(MANIFEST["contributions"]["sample_data"]) == 6
    for name in SAMPLES.values():
        [(image, _, kind)] = getattr(sample_data, name)()
        assert (image.dtype, kind) == (np.uint8, "image"), name


def test_the_tissue_is_a_picture_in_colour():
    [(image, options, _)] = sample_data.tissue()
    assert (image.shape, options["rgb"]) == ((512, 512, 3), True)


@pytest.mark.parametrize("name", ["nuclei", "stack", "movie", "channels", "phase_contrast"])
def test_drawn_samples_are_the_same_each_time_and_know_their_cells(name):
    [(image, options, kind)] = getattr(sample_data, name)()
    again, labels = getattr(drawn_images, name)()
    np.testing.assert_array_equal(image, again)
    assert (image.dtype, labels.dtype, kind) == (np.uint8, np.int32, "image")
    assert labels.shape == (image.shape[1:] if name == "channels" else image.shape)
    assert len(options.get("axis_labels", "yx")) == image.ndim
    seen = image[1] if name == "channels" else image
    assert len(np.unique(labels)) > 20
    # Cells are seen: brighter than the ground, or, in phase contrast, of another texture.
    inside, ground = seen[labels > 0].astype(float), seen[labels == 0].astype(float)
    assert abs(inside.mean() - ground.mean()) > ground.std() or name == "phase_contrast"


@pytest.mark.slow
def test_the_first_click_on_the_first_sample_is_good():
    image, labels = drawn_images.nuclei()
    scores = Scores()
    scores.add(labels, napari_unet.segment(image, model="nuclei@1"))
    assert scores.summary()["ap50"] > 0.9


def test_stacks_and_movies_keep_the_number_of_a_nucleus():
    stack, movie = drawn_images.stack()[1], drawn_images.movie()[1]
    assert len(np.intersect1d(stack[5], stack[6])) > 20
    # Mothers end where their daughters begin.
    before, after = set(np.unique(movie[4])), set(np.unique(movie[5]))
    assert len(after - before) == 2 * len(before - after) > 4
