import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.io.images import write_labels
from napari_unet.io.ome_zarr import create_labels
from napari_unet.io.outputs import NotOursError, check_replaceable, is_ours
from napari_unet.segmentation.measurements import measure, write_table
from napari_unet.service.files import plan_files

LABELS = np.eye(9, dtype=np.int32)


def test_what_we_wrote_may_be_replaced(tmp_path):
    write_labels(tmp_path / "a.tif", LABELS, "YX", (0.5, 0.5))
    write_labels(tmp_path / "large.tif", LABELS * 70_000, "YX")
    stack = np.stack([LABELS] * 2)
    for name, labels, axes in (("b", LABELS, "YX"), ("c", stack, "ZYX"), ("d", stack, "TYX")):
        columns = measure(labels, labels * 2, axes)
        write_table(tmp_path / f"{name}.csv", columns)
        added = {"class": ["cell"] * 1, "unit": ["px"] * 1}
        write_table(tmp_path / f"{name}2.csv", columns | added)
    two = np.stack([LABELS] * 2, axis=-1)
    write_table(tmp_path / "channels.csv", measure(LABELS, two, "YXC"))
    create_labels(tmp_path / "z.zarr", (2, 40, 3000), "ZYX", (1, 1, 1), (None,) * 3)
    zarr.open_array(tmp_path / "z.zarr" / "0")[:] = 1
    (tmp_path / "z.zarr" / ".DS_Store").write_bytes(b"of a file browser")
    (tmp_path / "empty").mkdir()
    for path in tmp_path.iterdir():
        assert is_ours(path), path
        check_replaceable(path)
    check_replaceable(tmp_path / "new.tif")


def test_what_others_made_may_not(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS)
    iio.imwrite(tmp_path / "b.tif", LABELS.astype(np.uint8), plugin="pillow")
    (tmp_path / "c.tif").write_bytes(b"")
    (tmp_path / "d.csv").write_text("label,area,my notes\n1,2,a year of work\n")
    (tmp_path / "e.csv").write_text("")
    (tmp_path / "f.csv").write_bytes(b"\xff\xfe\0")
    (tmp_path / "g.zarr").write_bytes(b"a file")
    (tmp_path / "h.zarr").mkdir()
    (tmp_path / "h.zarr" / "notes.txt").write_text("")
    zarr.save_array(tmp_path / "i.zarr", LABELS)
    create_labels(tmp_path / "j.zarr", (40, 40), "YX", (1, 1), (None,) * 2)
    (tmp_path / "j.zarr" / "0" / "notes.txt").write_text("")
    (tmp_path / "k.tif").symlink_to(tmp_path / "gone")
    for path in tmp_path.iterdir():
        assert not is_ours(path), path
        with pytest.raises(NotOursError, match=f"{path} is there already and was not made by"):
            check_replaceable(path)
        check_replaceable(path, overwrite=True)


@pytest.mark.parametrize("other", ["a_labels.tif", "a_cells.csv"])
def test_files_in_the_way_are_told_before_any_work(tmp_path, other):
    out = tmp_path / "out"
    out.mkdir()
    (out / other).write_text("a year of work")
    images = [tmp_path / "a.png"]
    iio.imwrite(images[0], LABELS.astype(np.uint8))
    with pytest.raises(NotOursError, match=other):
        plan_files(images, out, table=True)
    (file,) = plan_files(images, out, table=True, overwrite=True)
    file.check_written()
    assert (out / other).read_text() == "a year of work"
