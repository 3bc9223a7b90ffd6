"""Draws the pictures of `exports.md`: files that were written, as the readers of others see them.

python docs/make_export_pictures.py writes docs/images/exports-*.png. Each file is opened again by a
reader that is not ours (roifile, geojson and shapely, pycocotools, ome-zarr, csv, onnxruntime,
bioimageio.core), and what that read is drawn over the image. It takes about a minute on a CPU.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import roifile
import shapely
import tifffile
from numpy.typing import NDArray
from ome_zarr.writer import write_image
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO

import napari_unet

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from make_pictures import nuclei  # noqa: E402

from pictures import save_small  # noqa: E402

# Side of the image, in pixels, and how much larger it is drawn.
SIDE, ZOOM = 128, 3
COLOURS = [(255, 209, 102), (6, 214, 160), (239, 71, 111), (17, 138, 178), (200, 120, 255)]
Polygon = Sequence[tuple[float, float]]
Labels = NDArray[np.int32]
Picture = NDArray[np.uint8]


def on(image: Picture, title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a picture of an image, enlarged, below its title, and what draws on it."""
    pixels = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    height, width = (ZOOM * n for n in pixels.shape[:2])
    panel = Image.new("RGB", (width, height + 20), "white")
    panel.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (0, 20))
    draw = ImageDraw.Draw(panel)
    draw.text((2, 2), title, fill="black", font=ImageFont.load_default(size=14))
    return panel, draw


def outlines(image: Picture, title: str, polygons: Iterable[Polygon]) -> Image.Image:
    """Draw polygons, whose points are (x, y) from the edge of the first pixel."""
    panel, draw = on(image, title)
    for n, points in enumerate(polygons):
        moved = [(ZOOM * x, ZOOM * y + 20) for x, y in points]
        draw.line([*moved, moved[0]], fill=COLOURS[n % len(COLOURS)], width=2)
    return panel


def tinted(image: Picture, title: str, labels: Labels) -> Image.Image:
    """Draw labels as colours over an image."""
    pixels = (image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)).copy()
    colours = np.array(COLOURS)[labels % len(COLOURS)]
    inside = labels > 0
    pixels[inside] = (0.45 * pixels[inside] + 0.55 * colours[inside]).astype(np.uint8)
    return on(pixels, title)[0]


def dots(image: Picture, title: str, points: Mapping[str, tuple[float, float]]) -> Image.Image:
    """Draw a dot at each (y, x), with a number."""
    panel, draw = on(image, title)
    for name, (y, x) in points.items():
        at = ZOOM * (x + 0.5), ZOOM * (y + 0.5) + 20
        draw.ellipse([at[0] - 3, at[1] - 3, at[0] + 3, at[1] + 3], fill=COLOURS[0], outline="black")
        draw.text((at[0] + 5, at[1] - 5), name, fill="white", stroke_width=1, stroke_fill="black")
    return panel


def sheet(name: str, panels: Sequence[Image.Image], columns: int) -> None:
    """Save panels in rows."""
    width, height = panels[0].width + 8, panels[0].height + 8
    rows = -(-len(panels) // columns)
    whole = Image.new("RGB", (columns * width - 8, rows * height - 8), "white")
    for n, panel in enumerate(panels):
        whole.paste(panel, (n % columns * width, n // columns * height))
    save_small(whole, FOLDER / f"exports-{name}.png")


def of_roi(path: Path) -> list[Polygon]:
    """Return the outlines that roifile finds in a zip."""
    rois = roifile.roiread(path)
    return [[(float(x), float(y)) for x, y in c] for r in rois for c in r.coordinates(multi=True)]


def of_geojson(path: Path) -> list[Polygon]:
    """Return the outlines that geojson and shapely find."""
    found = geojson.loads(path.read_text("utf-8"))
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in found["features"]]
    parts = [p for shape in shapes for p in getattr(shape, "geoms", [shape])]
    return [list(ring.coords) for part in parts for ring in (part.exterior, *part.interiors)]


def of_coco(path: Path) -> Labels:
    """Return the masks that pycocotools finds, as labels."""
    coco = COCO(path)
    masks = [coco.annToMask(one) for one in coco.loadAnns(coco.getAnnIds())]
    return sum(n * mask.astype(np.int32) for n, mask in enumerate(masks, 1))  # type: ignore[return-value]


def of_zarr(path: Path) -> Labels:
    """Return the labels that ome-zarr finds in a store."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Label, Reader

    nodes = list(Reader(parse_url(path, mode="r"))())
    (node, *_) = [node for node in nodes if node.load(Label) is not None]
    return np.asarray(node.data[0])


def of_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels_sheet(folder: Path, image: Picture, labels: Labels) -> None:
    """Draw the exports of labels of one image."""
    for name in ("a.zip", "a.geojson", "a.json", "a.tif", "a.zarr"):
        napari_unet.export_labels(labels, folder / name)
    napari_unet.export_labels(labels, folder / "a.csv", image=image)
    write_image(image, str(folder / "image.zarr"), axes="yx", scale_factors=[])
    napari_unet.export_labels(labels, folder / "image.zarr", format="image-zarr")
    rows = of_table(folder / "a.csv")
    y, x = (next(k for k in rows[0] if k.endswith(f"_{axis}") or k == axis) for axis in "yx")
    centres = {row["label"]: (float(row[y]), float(row[x])) for row in rows}
    panels = [
        on(image, "Image")[0],
        outlines(image, "ImageJ ROIs, read by roifile", of_roi(folder / "a.zip")),
        outlines(image, "GeoJSON, read by geojson and shapely", of_geojson(folder / "a.geojson")),
        tinted(image, "COCO, read by pycocotools", of_coco(folder / "a.json")),
        tinted(image, "Label image, read by tifffile", tifffile.imread(folder / "a.tif")),
        tinted(image, "OME-Zarr, read by ome-zarr", of_zarr(folder / "a.zarr")),
        tinted(image, "In the image, read by ome-zarr", of_zarr(folder / "image.zarr")),
        dots(image, "Table, read by csv: labels", centres),
    ]
    sheet("labels", panels, 3)


def movie(side: int = 128) -> tuple[NDArray[np.uint8], Labels]:
    """Draw a movie of three cells, one of which divides, and its linked labels (T, Y, X)."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((6, side, side), np.int32)
    for time in range(6):
        places = {1: (30 + 9 * time, 30 + 3 * time), 2: (95 - 4 * time, 70 + 8 * time)}
        apart = 6 * (time - 2)
        if time < 3:
            places[3] = 40, 90 - 3 * time
        else:
            places |= {3: (40 - apart, 82), 4: (40 + apart, 84)}
        for label, (cy, cx) in places.items():
            labels[time][(y - cy) ** 2 + (x - cx) ** 2 <= 81] = label
    pixels = 25 + 150 * (labels > 0) + np.random.default_rng(0).integers(0, 25, labels.shape)
    return pixels.astype(np.uint8), labels


def movie_sheet(folder: Path) -> None:
    """Draw the exports of a movie."""
    pixels, labels = movie()
    napari_unet.export_labels(labels, folder / "t.csv", axes="TYX", format="tracks")
    napari_unet.export_labels(labels, folder / "RES", axes="TYX", format="ctc")
    last = pixels.max(0)
    panel, draw = on(last, "Tracks, read by csv; dashed: from the parent")
    tracks: dict[int, list[dict[str, str]]] = {}
    for row in of_table(folder / "t.csv"):
        tracks.setdefault(int(row["ID"]), []).append(row)

    def at(row: dict[str, str]) -> tuple[float, float]:
        return ZOOM * (float(row["X"]) + 0.5), ZOOM * (float(row["Y"]) + 0.5) + 20

    for number, track in tracks.items():
        colour = COLOURS[number % len(COLOURS)]
        points = [at(row) for row in track]
        draw.line(points, fill=colour, width=3)
        parent = int(track[0]["parent"])
        if parent:
            start, end = np.array(at(tracks[parent][-1])), np.array(points[0])
            for share in np.arange(0, 1, 0.25):
                part = [tuple(start + (end - start) * s) for s in (share, share + 0.12)]
                draw.line(part, fill=colour, width=2)
        draw.text(points[-1], str(number), fill="white", stroke_width=1, stroke_fill="black")
    panels = [panel]
    table = (folder / "RES" / "res_track.txt").read_text("ascii").splitlines()
    parents = dict(tuple(map(int, np.array(line.split())[[0, 3]])) for line in table)
    for time in (0, 3, 5):
        mask = tifffile.imread(folder / "RES" / f"mask{time:03}.tif").astype(np.int32)
        shown = tinted(pixels[time], f"Challenge, mask{time:03}.tif, read by tifffile", mask)
        draw = ImageDraw.Draw(shown)
        for label in np.unique(mask[mask > 0]):
            y, x = (ZOOM * float(v.mean()) for v in np.nonzero(mask == label))
            words = f"{label} (of {parents[label]})" if parents[label] else str(label)
            draw.text((x - 6, y + 14), words, fill="white", stroke_width=1, stroke_fill="black")
        panels.append(shown)
    sheet("movies", panels, 2)


def models_sheet(folder: Path, image: Picture) -> None:
    """Draw what other programs compute with an exported model."""
    import onnxruntime

    napari_unet.export_model("nuclei", folder / "nuclei.onnx")
    session = onnxruntime.InferenceSession(folder / "nuclei.onnx")
    # A valid size with its halo of 44 px, mirrored.
    low, high = np.percentile(image, (1, 99.8))
    seen = ((image - low) / (high - low)).clip(-1, 2).astype(np.float32)
    side, before, size = SIDE, 44, 8 * -(-(SIDE + 88 - 28) // 8) + 28
    # A grey image is repeated for the three colours that the model takes.
    padded = np.stack(3 * [np.pad(seen, (before, size - side - before), mode="reflect")])[None]
    (scores,) = session.run(None, {"input": padded})
    found = scores[0, 1, :side, :side]
    panels = [on(image, "Image")[0], on(heat(found), "ONNX, run by onnxruntime: cell")[0]]
    panels.append(on(heat(scores[0, 2, :side, :side]), "ONNX, run by onnxruntime: distance")[0])
    napari_unet.export_model("nuclei", folder / "nuclei.zip")
    panels.append(on(heat(of_bioimageio(folder / "nuclei.zip", image)), _BIOIMAGEIO)[0])
    sheet("models", panels, 2)


_BIOIMAGEIO = "bioimage.io zip, run by bioimageio.core: cell"


def of_bioimageio(path: Path, image: Picture) -> NDArray[Any]:
    """Return the scores of cells that bioimageio.core computes, of the raw image."""
    from bioimageio.core import (
        Sample,
        Tensor,
        create_prediction_pipeline,
        load_model_description,
    )

    raw = np.stack(3 * [np.pad(image, 48, mode="reflect")])[None]
    tensor = Tensor(raw.astype(np.float32), dims=("batch", "channel", "y", "x"))
    sample = Sample(members={"input": tensor}, stat={}, id="image")
    with create_prediction_pipeline(load_model_description(path), weight_format="onnx") as run:
        found = np.asarray(run.predict_sample_without_blocking(sample).members["scores"].data)
    return found[0, 1, 48 : 48 + SIDE, 48 : 48 + SIDE]


def heat(scores: NDArray[Any]) -> Picture:
    """Return scores as a grey picture, 1 is white."""
    return (255 * scores.clip(0, 1)).astype(np.uint8)


def imports_sheet(folder: Path, image: Picture, labels: Labels) -> None:
    """Draw labels that came from other programs, as they are read here."""
    np.save(folder / "a_seg.npy", {"masks": labels.astype(np.uint16)}, allow_pickle=True)  # type: ignore[arg-type]
    ovals = []
    for label in np.unique(labels[labels > 0]):
        y, x = np.nonzero(labels == label)
        roi = roifile.ImagejRoi(
            left=int(x.min()), right=int(x.max()) + 1, top=int(y.min()), bottom=int(y.max()) + 1,
            roitype=roifile.ROI_TYPE.OVAL, name=f"oval {label}",
        )  # fmt: skip
        ovals.append(roi)
    roifile.roiwrite(folder / "ovals.zip", ovals, mode="w")
    hexagons = [
        geojson.Feature(geometry=shapely.geometry.Point(x.mean(), y.mean()).buffer(8, 2))
        for y, x in (np.nonzero(labels == label) for label in np.unique(labels[labels > 0]))
    ]
    (folder / "b.geojson").write_text(geojson.dumps(geojson.FeatureCollection(hexagons)))
    names = {"a_seg.npy": "masks of Cellpose", "ovals.zip": "ovals of ImageJ (roifile)"}
    names["b.geojson"] = "polygons in GeoJSON (shapely)"
    panels = [
        tinted(
            image,
            f"{name}: {words}",
            np.asarray(napari_unet.read_labels(folder / name, shape=labels.shape), np.int32),
        )
        for name, words in names.items()
    ]
    sheet("imports", panels, 3)


def main() -> None:
    """Draw all pictures."""
    image = np.ascontiguousarray(nuclei()[0][:SIDE, :SIDE])
    labels = napari_unet.segment(image)
    with tempfile.TemporaryDirectory() as folder:
        labels_sheet(Path(folder), image, labels)
        movie_sheet(Path(folder))
        models_sheet(Path(folder), image)
        imports_sheet(Path(folder), image, labels)


if __name__ == "__main__":
    main()
