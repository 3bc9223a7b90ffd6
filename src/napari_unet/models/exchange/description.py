"""What an archive says of a model: bioimageio.yaml (format 0.5) and README.md."""

from __future__ import annotations

import re

from napari_unet.core.json_types import JsonObject
from napari_unet.core.network.framed import LESS_PX
from napari_unet.core.network.unet import UNet, halo_px
from napari_unet.core.tiling import smallest_input_px
from napari_unet.models.exchange.onnx_graph import INPUT, OPSET, OUTPUT, output_names
from napari_unet.models.header import ModelHeader

# Names of the files in an archive.
README, COVER = "README.md", "cover.png"
ONNX, STATE, SOURCE = "weights.onnx", "weights.pt", "unet.py"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
# An entry of `config` in the YAML, with the name of the model file and the hash of the weights that
# other programs see; if they were changed, the model file no longer stands for them.
CONFIG = "napari_unet"

_PAPER = {
    "text": "Ronneberger, Fischer, Brox (2015). U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation. MICCAI",
    "doi": "10.1007/978-3-319-24574-4_28",
}
# What is cited where `trained_on` names it.
_DATA = {
    "BBBC038": {
        "text": "Caicedo et al. (2019). Nucleus segmentation across imaging experiments: the 2018 "
        "Data Science Bowl. Nature Methods",
        "doi": "10.1038/s41592-019-0612-7",
    }
}
_COLOURS = ("red", "green", "blue")
_URL = "https://github.com/napari-unet/napari-unet"


def halo_to_crop_px(depth: int) -> int:
    """Return how many pixels other programs crop from each side of a framed output.

    Examples
    --------
    >>> halo_to_crop_px(4)
    96
    """
    return LESS_PX + halo_px(depth)


def smallest_framed_px(depth: int) -> int:
    """Return the smallest size of a framed input of which something is left, in pixels.

    Examples
    --------
    >>> smallest_framed_px(4) - 2 * halo_to_crop_px(4)
    16
    """
    return LESS_PX + smallest_input_px(depth)


def describe(
    network: UNet, header: ModelHeader, model_file: str, hashes: dict[str, str], made_with: str
) -> JsonObject:
    """Return the content of bioimageio.yaml.

    Parameters
    ----------
    network, header
        The model.
    model_file
        Name of this program's model file in the archive.
    hashes
        The SHA-256 of each file of the archive that is described.
    made_with
        The version of torch.
    """

    def file(name: str, **more: object) -> JsonObject:
        return {"source": name, "sha256": hashes[name], **more}

    depths = network.config.depths
    axes = list(zip("zyx"[-len(depths) :], depths, strict=True))
    normalisation = {"low": 1.0, "high": 99.8, "clip": 1.0, **header.normalisation}
    clip = normalisation["clip"]
    scale = {
        "axes": [axis for axis, _ in axes],
        "min_percentile": normalisation["low"],
        "max_percentile": normalisation["high"],
        "eps": 1e-6,
    }
    content = {
        "format_version": "0.5.4",
        "type": "model",
        "name": _title(header.name),
        "description": _summary(header),
        "authors": [{"name": "napari-unet"}],
        "cite": [_PAPER, *(cited for name, cited in _DATA.items() if _learnt(header, name))],
        "git_repo": _URL,
        "tags": _tags(header),
        "documentation": README,
        "covers": [COVER],
        "attachments": [file(model_file)],
        "inputs": [
            {
                "id": INPUT,
                "description": "intensities as they come from the microscope",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": _channels(network.config.in_channels)},
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "size": {"min": smallest_framed_px(depth), "step": 2**depth},
                        }
                        for axis, depth in axes
                    ),
                ],
                "data": {"type": "float32"},
                "test_tensor": file(TEST_INPUT),
                "preprocessing": [
                    {"id": "scale_range", "kwargs": scale},
                    {"id": "clip", "kwargs": {"min": -clip, "max": 1 + clip}},
                ],
            }
        ],
        "outputs": [
            {
                "id": OUTPUT,
                "description": "probability of each class"
                + ", and relative distance to the outline of the cell" * network.config.distance,
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": output_names(network, header)},
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "size": {"tensor_id": INPUT, "axis_id": axis},
                            "halo": halo_to_crop_px(depth),
                        }
                        for axis, depth in axes
                    ),
                ],
                "data": {"type": "float32"},
                "test_tensor": file(TEST_OUTPUT),
            }
        ],
        "weights": {
            "pytorch_state_dict": file(
                STATE,
                architecture=file(SOURCE, callable="FramedUNet", kwargs=dict(header.architecture)),
                pytorch_version=made_with.partition("+")[0],
            ),
            "onnx": file(ONNX, opset_version=OPSET, parent="pytorch_state_dict"),
        },
        "config": {CONFIG: {"model": model_file, "weights": [hashes[ONNX], hashes[STATE]]}},
    }
    if header.licence:
        content["license"] = header.licence
    if header.created:
        content["timestamp"] = header.created
    return content


def readme(network: UNet, header: ModelHeader, model_file: str) -> str:
    """Return the documentation of an archive, in Markdown."""
    depths = network.config.depths
    decoding = "\n".join(f"- `{key}`: {value}" for key, value in header.postprocess.items())
    sizes = "\n".join(
        f"- {axis}: a multiple of {2**depth} px, {smallest_framed_px(depth)} or more; crop "
        f"{halo_to_crop_px(depth)} px from each side of the output"
        for axis, depth in zip("zyx"[-len(depths) :], depths, strict=True)
    )
    trained = "\n".join(f"- {words}" for words in header.trained_on) or "- not recorded"
    scores = "\n".join(f"- {name}: {value:.3g}" for name, value in header.scores.items())
    corrections = len(header.corrections)
    if corrections:
        trained += f"\n- {corrections} corrections by a user of napari-unet"
    return f"""# {_title(header.name)}

{_summary(header)}

It is the U-Net of Ronneberger, Fischer and Brox (2015), with valid convolutions.
[napari-unet]({_URL}) made this archive.

## Input

{_input_words(network, header)}
Each channel is scaled so that two of its percentiles become 0 and 1, and clipped; `bioimageio.yaml`
has the numbers. napari-unet also leaves out specks that are far brighter than all else, and finds
out the size of the cells; other programs do not.
{_size_words(header)}

Valid sizes of the input:

{sizes}

The output has the size of the input, and no scores near its edges: convolutions are valid ones.
What to crop is the `halo` in `bioimageio.yaml`. Pad images by mirroring them.

## Output

Channels, in this order: {", ".join(output_names(network, header))}. The classes are probabilities
that sum to 1.{_distance_words(network)}

How napari-unet turns them into cells:

{decoding or "- with its default settings"}

## Training

{trained}

## Validation

{scores or "No score is recorded."}

Compare the labels with labels drawn by hand on images that the model has not seen, for example with
`napari-unet evaluate`.

## Licence

{header.licence or "None is recorded: ask whoever gave you this file."}

## Files

`{model_file}` is the model as napari-unet stores it: import this archive there to go on with it.
"""


def _title(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_+\- ()]", "_", f"{name} (napari-unet)")


def _summary(header: ModelHeader) -> str:
    where = "stacks" if header.for_stacks else "images"
    kinds = header.classes[1:]
    classes = f", of the classes {', '.join(kinds)}" if len(kinds) > 1 else ""
    return f"U-Net that segments cells in microscope {where}{classes}."[:512]


def _learnt(header: ModelHeader, name: str) -> bool:
    return any(name in words for words in header.trained_on)


def _tags(header: ModelHeader) -> list[str]:
    content = ["nuclei"] if _learnt(header, "BBBC038") else []
    dims = "3d" if header.for_stacks else "2d"
    return [*content, "cells", dims, "unet", "pytorch", "instance-segmentation", "napari-unet"]


def _channels(count: int) -> list[str]:
    if count == 1:
        return ["intensity"]
    return list(_COLOURS) if count == 3 else [f"channel{number}" for number in range(count)]


def _input_words(network: UNet, header: ModelHeader) -> str:
    count = network.config.in_channels
    words = f"{count} channel{'s' * (count > 1)}: {', '.join(_channels(count))}."
    if count == 3:
        words += " Repeat a grey image three times."
    if header.anisotropy is not None:
        words += f" Planes lie {header.anisotropy:g} pixels apart."
    return words


def _size_words(header: ModelHeader) -> str:
    if header.diameter_px is None:
        return "" if header.zoom == 1 else f"Resize images by {header.zoom:.3g} before."
    seen = header.diameter_px * header.zoom
    return (
        f"\nResize images so that cells are about {seen:.0f} px wide: the network knows this size."
    )


def _distance_words(network: UNet) -> str:
    if not network.config.distance:
        return ""
    return (
        "\nThe distance is that of a pixel from the outline of its cell, over the largest in that "
        "cell:\nit is near 1 in cores, and low where cells touch."
    )
