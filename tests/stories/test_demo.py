import imageio.v3 as iio
import numpy as np
import pytest

from napari_unet import demo
from napari_unet.models.store import SHIPPED, ModelStore

needs_weights = pytest.mark.skipif(
    not (SHIPPED / "nuclei.safetensors").exists(), reason="no weights here"
)


def test_a_stroke_is_found_where_a_cell_covers_it_and_only_there():
    labels = np.zeros((512, 512), np.int32)
    assert demo.found(labels, [0, 1]) == 0
    labels[demo.stroke_mask(1, labels.shape)] = 7
    assert demo.found(labels, [0, 1]) == 1
    labels[:] = 7
    assert demo.found(labels, [0, 1]) == 0, "a cell far larger than the stroke is another cell"


def test_outlines_are_drawn_around_each_cell():
    labels = np.zeros((10, 12), np.int32)
    labels[2:6, 3:8] = 1
    picture = demo.outlined(np.zeros((10, 12, 3), np.uint8), labels, zoom=2)
    assert picture.shape == (20, 24, 3)
    yellow = (picture == (255, 230, 0)).all(-1)
    assert yellow[4, 6:16].all()
    assert not yellow[6:10, 8:14].any()


@pytest.mark.slow
@needs_weights
def test_the_story_without_a_display_leaves_pictures_and_no_model(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(demo.sys, "platform", "linux")
    monkeypatch.setattr(demo, "_SECONDS", 3.0)
    assert demo.run_in_viewer(tmp_path / "pictures") == 0
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["1-image.png", "2-segmented.png", "3-painted.png", "4-segmented-again.png"]
    pictures = [iio.imread(tmp_path / "pictures" / name) for name in names]
    assert all(picture.shape == (1024, 1024, 3) for picture in pictures)
    assert all((pictures[0] != picture).any() for picture in pictures[1:])
    said = capsys.readouterr().out
    assert "8 missed nuclei painted" in said
    assert str(tmp_path / "pictures") in said
    assert [v.version for v in ModelStore().versions("nuclei")] == [1]
