"""Writers of microscopes' files, as small as the formats allow; see `io.microscope`."""

import struct
from pathlib import Path

import numpy as np


def write_czi(path: Path, scenes, axes="CYX", *, names=(), pixel_size_um=None, z_step_um=0.0):
    """Write arrays with these axes, one for each scene, with the library that Zeiss gives out."""
    from pylibCZIrw import czi

    outer = axes.replace("YX", "").replace("S", "")
    with czi.create_czi(str(path)) as file:
        corner = 0
        for scene, pixels in enumerate(scenes):
            for index in np.ndindex(pixels.shape[: len(outer)]):
                plane = pixels[index]
                # Its colours are blue, green, red.
                plane = plane[..., ::-1] if axes.endswith("S") else plane[..., None]
                place = dict(zip(outer, map(int, index), strict=True))
                file.write(np.ascontiguousarray(plane), (corner, 7), place, scene=scene)
            corner += pixels.shape[axes.index("X")] + 5
        y, x = pixel_size_um or (0.0, 0.0)
        # Its documentation says um; what it writes are metres.
        file.write_metadata(
            channel_names=dict(enumerate(names)),
            scale_y=y * 1e-6,
            scale_x=x * 1e-6,
            scale_z=z_step_um * 1e-6,
        )


def write_lif(path: Path, images):
    """Write images as LAS X does: an XML with their descriptions, then their pixels.

    Each is (name, pixels, axes, steps, names): axes of S, C, X, Y, Z, T and M (tiles), the size of
    a step along each in um or s, and the names of the channels.
    """
    elements, blocks = [], []
    for number, (name, pixels, axes, steps, names) in enumerate(images):
        jump = dict(zip(axes, pixels.strides, strict=True))
        sizes = dict(zip(axes, pixels.shape, strict=True))
        n_channels = sizes.get("C", sizes.get("S", 1))
        bits = 8 * pixels.dtype.itemsize
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="{1 + c if "S" in axes else 0}" '
            f'Resolution="{bits}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
            f'LUTName="{names[c] if names else "Gray"}" IsLUTInverted="0" '
            f'BytesInc="{c * jump.get("C", jump.get("S", 0))}" BitInc="0"/>'
            for c in range(n_channels)
        )
        dimensions = "".join(
            f'<DimensionDescription DimID="{dim}" NumberOfElements="{sizes[axis]}" Origin="0" '
            f'Length="{steps.get(axis, 0) * scale * (sizes[axis] - 1):.9e}" Unit="{unit}" '
            f'BytesInc="{jump[axis]}" BitInc="0"/>'
            for axis, dim, unit, scale in (
                ("X", 1, "m", 1e-6),
                ("Y", 2, "m", 1e-6),
                ("Z", 3, "m", 1e-6),
                ("T", 4, "s", 1.0),
                ("M", 10, "", 1.0),
            )
            if axis in axes
        )
        elements.append(
            f'<Element Name="{name}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
            f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{pixels.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        blocks.append((f"MemBlock_{number}", pixels.tobytes()))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project"><Data/><Children>'
        f"{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    )
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)))
        file.write(xml.encode("utf-16-le"))
        for block, data in blocks:
            head = (0x70, 14 + 2 * len(block), 0x2A, len(data), 0x2A, len(block))
            file.write(struct.pack("<IIBQBI", *head))
            file.write(block.encode("utf-16-le"))
            file.write(data)


def write_nd2(
    path: Path, pixels, axes, *, names=(), pixel_size_um=None, z_step_um=1.0, period_ms=0
):
    """Write an image as NIS-Elements 2 did: chunks, each with a name, and a map of them.

    `axes` are those of T, P (positions), Z in any order, then C if there are several, Y and X; or
    S, for colours, last.
    """
    sizes = dict(zip(axes, pixels.shape, strict=True))
    n_outer = sum(axis in "TPZ" for axis in axes)
    n_components = sizes.get("C", sizes.get("S", 1))
    experiment = ""
    for axis in reversed(axes[:n_outer]):
        n = sizes[axis]
        kind, loop = {
            "T": (1, [("uiCount", n), ("dStart", 0.0), ("dPeriod", float(period_ms))]),
            "Z": (4, [("uiCount", n), ("dZStep", float(z_step_um)), ("iType", 0)]),
            "P": (2, []),
        }[axis]
        loop += [("dDuration", 0.0)] if axis == "T" else []
        points = "".join(
            f"<i{p:010}>{_values([('dPosX', 10.0 * p), ('dPosName', f'well {p}')])}</i{p:010}>"
            for p in range(n)
        )
        inside = _values(loop) + (f"<Points>{points}</Points>" if axis == "P" else "")
        below = f"<ppNextLevelEx><i0>{experiment}</i0></ppNextLevelEx>" if experiment else ""
        experiment = f"{_values([('eType', kind)])}<uLoopPars>{inside}</uLoopPars>{below}"
    n_planes = sizes.get("C", 1)
    planes = "".join(
        f"<a{c}>"
        + _values([("uiCompCount", sizes.get("S", 1))])
        + (_values([("sDescription", names[c])]) if names else "")
        + f"<pFluorescentProbe>{_values([('m_sName', 'dye')])}</pFluorescentProbe></a{c}>"
        for c in range(n_planes)
    )
    calibrated = [
        ("bCalibrated", pixel_size_um is not None),
        ("dCalibration", pixel_size_um or 0.0),
    ]
    bits = 8 * pixels.dtype.itemsize
    frames = pixels.reshape(-1, *pixels.shape[n_outer:])
    attributes = [
        ("uiWidth", sizes["X"]),
        ("uiHeight", sizes["Y"]),
        ("uiWidthBytes", sizes["X"] * n_components * pixels.dtype.itemsize),
        ("uiComp", n_components),
        ("uiBpcInMemory", bits),
        ("uiBpcSignificant", bits),
        ("uiSequenceCount", len(frames)),
    ]
    chunks = {
        "ImageAttributes!": _variant(_values(attributes)),
        "ImageMetadata!": _variant(experiment),
        "ImageMetadataSeq|0!": _variant(
            _values(calibrated)
            + f"<sPicturePlanes>{_values([('uiCount', n_planes)])}<sPlane>{planes}</sPlane>"
            "</sPicturePlanes>"
        ),
    }
    for n, frame in enumerate(frames):
        last = np.moveaxis(frame, 0, -1) if "C" in axes else frame
        # The time of the frame stands before its pixels.
        chunks[f"ImageDataSeq|{n}!"] = bytes(8) + np.ascontiguousarray(last).tobytes()
    _write_chunks(path, chunks)


def _write_chunks(path: Path, chunks):
    with path.open("wb") as file:
        _chunk(file, "ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.0".ljust(64, b"\0"), 32)
        places = {}
        for name, data in chunks.items():
            places[name] = file.tell(), len(data)
            _chunk(file, name, data, 4096 - 16 - 8)
        where = file.tell()
        table = b"".join(n.encode() + struct.pack("<QQ", *at) for n, at in places.items())
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", where)
        _chunk(file, "ND2 FILEMAP SIGNATURE NAME 0001!", table + end, 32)


def _chunk(file, name, data, room):
    file.write(struct.pack("<IIQ", 0x0ABECEDA, room, len(data)))
    file.write(name.encode().ljust(room, b"\0") + data)


def _variant(inside):
    return f"<variant><no_name>{inside}</no_name></variant>".encode()


def _values(items):
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    return "".join(f'<{k} runtype="{kinds[type(v)]}" value="{v}"/>' for k, v in items)
