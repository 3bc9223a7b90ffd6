"""Does Trackastra take the labels and the tracks that napari-unet writes?

    pip install trackastra napari-trackastra
    python -m benchmarks.tracking_by_trackastra [--steps 600]

Movies of cells that move and divide are drawn and segmented. Their tracks leave in the format of
the Cell Tracking Challenge, which Trackastra's own reader checks and loads as training data. A
small model of Trackastra, whose weights are drawn by chance, learns from them. It then tracks
another such movie: as arrays, from files, and in the widget of napari-trackastra, from the layers
of a viewer. Nothing is downloaded. Printed is how many of the drawn links it finds again.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

import napari_unet
from napari_unet.config import PredictConfig

# Width of the movies, and the radius of their cells, in pixels.
SIDE, RADIUS = 160, 7
TIMES, CELLS = 12, 9
MOVIES = 4
# When cells divide: the first three of them.
DIVISIONS = (3, 5, 7)
# A time and the middle of a cell in it.
Cell = tuple[int, float, float]


def draw(seed: int) -> tuple[NDArray[np.uint8], list[tuple[Cell, Cell]]]:
    """Return a movie (T, Y, X), and the links: which cell became which one of the next time."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    corners = rng.permutation(9)[:CELLS]
    cells = [
        (np.array([28.0 + 50 * (n // 3), 28.0 + 50 * (n % 3)]), rng.uniform(-1, 1, 2), divides)
        for n, divides in zip(corners, (*DIVISIONS, *[TIMES] * CELLS), strict=False)
    ]
    movie, links = np.empty((TIMES, SIDE, SIDE), np.uint8), []
    for now in range(TIMES):
        image = rng.normal(25, 4, (SIDE, SIDE))
        after = []
        for middle, speed, divides in cells:
            far = np.hypot(y - middle[0], x - middle[1]) / RADIUS
            image += 150 * np.exp(-(far**6))
            apart = np.array([RADIUS + 2.0, 0.0]) if divides == now else np.zeros(2)
            for sign in (1, -1) if divides == now else (1,):
                there = middle + speed + sign * apart
                after.append((there, speed, divides))
                links.append(((now, *middle), (now + 1, *there)))
        movie[now], cells = image.clip(0, 255), after
    return movie, [link for link in links if link[1][0] < TIMES]


def found(links: list[tuple[Cell, Cell]], masks: NDArray[Any], parents: dict[int, int]) -> int:
    """Return how many links a tracker found: one id at both times, or that of a parent."""
    count = 0
    for one, other in links:
        before, after = (int(masks[t, round(y), round(x)]) for t, y, x in (one, other))
        count += before > 0 and (before == after or parents.get(after) == before)
    return count


def write_challenge(folder: Path, movie: NDArray[Any]) -> Path:
    """Write a movie and its tracks as the challenge has them; returns the folder of the images."""
    labels = napari_unet.segment(movie, axes="TYX", config=PredictConfig(link="t"))
    images = folder / "01"
    images.mkdir(parents=True)
    for time, image in enumerate(movie):
        tifffile.imwrite(images / f"t{time:03}.tif", image)
    napari_unet.export_labels(labels, folder / "01_GT" / "TRA", axes="TYX", format="ctc")
    return images


def train(movies: list[Path], model_folder: Path, steps: int) -> None:
    """Train a small model of Trackastra on movies, and save it as Trackastra does."""
    import joblib
    import torch
    from trackastra.data import CTCData
    from trackastra.model import TrackingTransformer
    from trackastra.utils import blockwise_causal_norm

    torch.manual_seed(0)
    data = []
    for images in movies:
        # It takes these tracks for the truth, which has another name than results have.
        tracks = images.with_name("01_GT") / "TRA"
        (tracks / "res_track.txt").rename(tracks / "man_track.txt")
        with joblib.parallel_config(backend="sequential"):
            data.append(CTCData(str(images), window_size=4, augment=3))
        assert len(data[-1]) == TIMES - 3
    window = data[0][0]
    model = TrackingTransformer(
        coord_dim=2,
        feat_dim=window["features"].shape[1],
        d_model=64,
        num_encoder_layers=1,
        num_decoder_layers=1,
        window=4,
        spatial_pos_cutoff=SIDE,
    )
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    loss = torch.tensor(0.0)
    for step in range(steps):
        movie = data[step % len(data)]
        window = movie[int(torch.randint(len(movie), ()))]
        times = window["timepoints"]
        logits = model(window["coords"][None], features=window["features"][None])[0]
        scores = blockwise_causal_norm(logits, times, mode="quiet_softmax")
        is_next = times[None, :] - times[:, None] == 1
        truth = window["assoc_matrix"].float()
        losses = torch.nn.functional.binary_cross_entropy(
            scores.clip(0, 1), truth.clip(0, 1), reduction="none"
        )
        loss = losses[is_next].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"trained for {steps} steps on {len(data)} movies, loss {loss.item():.3f}")
    model.save(model_folder)
    settings = {"features": "wrfeat"}
    (model_folder / "train_config.yaml").write_text(yaml.safe_dump(settings), "utf-8")


def check_reader(tracks: Path) -> None:
    """Read a folder of results with Trackastra's reader and its checks of the format."""
    from trackastra.data._check_ctc import _check_ctc, _get_node_attributes
    from trackastra.data.utils import load_tiff_timeseries, load_tracklet_links

    masks, table = load_tiff_timeseries(tracks), load_tracklet_links(tracks)
    _check_ctc(table, _get_node_attributes(masks), masks)
    divided = int((table[table.parent > 0].parent.value_counts() == 2).sum())
    print(f"its reader finds {len(table)} tracks and {divided} divisions in {masks.shape}")


def main() -> None:
    """Print what Trackastra found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="of the training")
    options = parser.parse_args()
    import trackastra
    from trackastra.model import Trackastra
    from trackastra.tracking import graph_to_ctc

    logging.disable(logging.INFO)
    print("Trackastra", trackastra.__version__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        movies = [write_challenge(folder / str(n), draw(n)[0]) for n in range(MOVIES)]
        for images in movies:
            check_reader(images.with_name("01_GT") / "TRA")
        train(movies, folder / "model", options.steps)

        movie, links = draw(MOVIES)
        # Not linked: each time has ids of its own, as Segment finds them.
        labels = napari_unet.segment(movie, axes="TYX")
        tifffile.imwrite(folder / "movie.tif", movie)
        napari_unet.export_labels(labels, folder / "labels.tif", axes="TYX")
        test = write_challenge(folder / "test", movie)
        model = Trackastra.from_folder(folder / "model", device="cpu")
        sources = {
            "arrays": lambda: model.track(movie, labels, mode="greedy"),
            "files": lambda: model.track_from_disk(folder / "movie.tif", folder / "labels.tif"),
            "folders": lambda: model.track_from_disk(test, test.with_name("01_GT") / "TRA"),
        }
        for source, track in sources.items():
            table, masks = graph_to_ctc(*track())
            parents = dict(zip(table.label, table.parent, strict=True))
            n = found(links, masks, parents)
            divided = int((table[table.parent > 0].parent.value_counts() == 2).sum())
            print(f"{source}: {n} of {len(links)} links, {divided} of {len(DIVISIONS)} divisions")
        in_viewer(movie, links, folder / "model")


def in_viewer(movie: NDArray[Any], links: list[tuple[Cell, Cell]], model: Path) -> None:
    """Segment in the dock, and track the layers with the widget of napari-trackastra."""
    import napari
    from napari_trackastra._widget import Tracker
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()
    image = viewer.add_image(movie, name="movie", axis_labels=("t", "y", "x"))
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")
    dock.advanced.scope.value = "everything"
    dock.segment_button.click()
    while dock.is_busy or dock.is_counting:
        QApplication.processEvents()
    tracker = Tracker(viewer, device="cpu")
    viewer.window.add_dock_widget(tracker, name="Trackastra")
    labels = dock.labels.value
    tracker._image_layer.value, tracker._mask_layer.value = image, labels
    tracker._model_type.value, tracker._model_path.value = "Custom", model
    tracker._run_button.native.click()
    masks, tracks = viewer.layers["masks_tracked"].data, viewer.layers["tracks"]
    print(
        f"napari-trackastra: layers {labels.data.shape} {labels.data.dtype} -> {masks.shape}, "
        f"{len(np.unique(tracks.data[:, 0]))} tracks, {len(tracks.graph)} with a parent"
    )
    viewer.close()


if __name__ == "__main__":
    main()
