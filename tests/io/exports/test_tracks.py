import csv
import re

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.exports.tracks import write_challenge, write_track_table
from napari_unet.io.image_source import ImageSource

# One cell goes on, one divides into itself and a new one, one is missing at time 1.
MOVIE = np.zeros((3, 8, 12), np.int32)
MOVIE[:, 0:2, 0:2] = 1
MOVIE[0, 4:8, 0:8] = 2
MOVIE[1:, 4:8, 0:3] = 2
MOVIE[1:, 4:8, 5:8] = 3
MOVIE[::2, 0:2, 9:12] = 7

MOVIES = st.sampled_from(["TYX", "TZYX", "ZTYX"]).flatmap(
    lambda axes: st.tuples(
        arrays(
            np.int32,
            tuple(4 if axis == "T" else 3 for axis in axes),
            elements=st.sampled_from([0, 1, 2, 3, 100_000]),
        ),
        st.just(axes),
    )
)


def of(labels, axes="TYX"):
    return Labelled(ImageSource(labels, axes))


def check_challenge(folder, n_times):
    """The rules of the challenge for results; returns the masks and the table of tracks."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == [*(f"mask{time:03}.tif" for time in range(n_times)), "res_track.txt"]
    masks = [tifffile.imread(folder / name) for name in names[:-1]]
    assert all(mask.dtype == np.uint16 for mask in masks)
    assert len({mask.shape for mask in masks}) <= 1
    text = (folder / "res_track.txt").read_text("ascii")
    assert re.fullmatch(r"(\d+ \d+ \d+ \d+\n)*", text)
    table = [tuple(map(int, line.split())) for line in text.splitlines()]
    tracks = {label: (begin, end, parent) for label, begin, end, parent in table}
    assert len(tracks) == len(table), "each track has one line"
    assert 0 not in tracks
    for label, (begin, end, parent) in tracks.items():
        assert 0 <= begin <= end < n_times
        for time, mask in enumerate(masks):
            is_there = (mask == label).any()
            assert is_there == (begin <= time <= end), "in each frame of its time, and no other"
        if parent:
            assert tracks[parent][1] < begin, "a parent ends before its daughters begin"
    shown = {int(label) for mask in masks for label in np.unique(mask)} - {0}
    assert shown == set(tracks), "each track has a line"
    return masks, tracks


def test_a_movie_as_in_the_challenge(tmp_path):
    write_challenge(tmp_path / "RES", of(MOVIE))
    masks, tracks = check_challenge(tmp_path / "RES", 3)
    assert tracks == {
        1: (0, 2, 0),
        2: (0, 0, 0),
        3: (1, 2, 2),
        7: (0, 0, 0),
        8: (1, 2, 2),
        9: (2, 2, 7),
    }
    expected = MOVIE.copy()
    expected[1:][MOVIE[1:] == 2] = 8
    expected[2][MOVIE[2] == 7] = 9
    np.testing.assert_array_equal(masks, expected)


@given(MOVIES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_movie_follows_the_rules_and_keeps_its_cells(tmp_path_factory, movie):
    labels, axes = movie
    folder = tmp_path_factory.mktemp("ctc") / "RES"
    frames = np.moveaxis(labels, axes.index("T"), 0)
    ids = [label for frame in frames for label in np.unique(frame[frame > 0])]
    times = [time for time, frame in enumerate(frames) if frame.any()]
    if len(set(ids)) == len(ids) and len(times) > 1:
        with pytest.raises(ValueError, match="no cell has the same id at two times"):
            write_challenge(folder, of(labels, axes))
        return
    write_challenge(folder, of(labels, axes))
    masks, _ = check_challenge(folder, 4)
    for mask, frame in zip(masks, frames, strict=True):
        pairs = {(int(a), int(b)) for a, b in zip(mask.ravel(), frame.ravel(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_ids_that_16_bits_cannot_hold_are_given_anew(tmp_path):
    write_challenge(tmp_path / "RES", of(MOVIE * 50_000))
    _, tracks = check_challenge(tmp_path / "RES", 3)
    assert tracks == {
        1: (0, 2, 0),
        2: (0, 0, 0),
        3: (1, 2, 2),
        4: (0, 0, 0),
        5: (1, 2, 2),
        6: (2, 2, 4),
    }


def test_results_of_before_are_replaced_as_a_whole(tmp_path):
    write_challenge(tmp_path / "RES", of(MOVIE))
    write_challenge(tmp_path / "RES", of(MOVIE[:2]))
    check_challenge(tmp_path / "RES", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["RES"]


def test_a_folder_of_other_things_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("a year of work")
    with pytest.raises(ValueError, match=r"holds other files \(notes.txt\), so it is not replaced"):
        write_challenge(tmp_path, of(MOVIE))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("write", [write_challenge, write_track_table])
def test_what_is_no_movie_of_linked_cells(tmp_path, write):
    with pytest.raises(ValueError, match="the axes ZYX and tracks need a time axis T"):
        write(tmp_path / "a", of(MOVIE, "ZYX"))
    unlinked = MOVIE + 10 * np.arange(3)[:, None, None] * (MOVIE > 0)
    with pytest.raises(ValueError, match="no cell has the same id at two times"):
        write(tmp_path / "a", of(unlinked))
    assert list(tmp_path.iterdir()) == []


def test_more_tracks_than_16_bits_hold(tmp_path):
    frame = np.arange(1, 70_001, dtype=np.int32).reshape(280, 250)
    with pytest.raises(ValueError, match="there are 70000 tracks, and the masks"):
        write_challenge(tmp_path / "RES", of(np.stack([frame] * 2)))


@pytest.mark.slow
def test_napari_shows_the_table_as_tracks(tmp_path):
    from napari.layers import Tracks

    write_track_table(tmp_path / "a.csv", of(MOVIE))
    with (tmp_path / "a.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["ID", "T", "Y", "X", "label", "parent", "division"]
    table = np.array(rows, float)
    parents = {int(row[0]): [int(row[5])] for row in table if row[5]}
    layer = Tracks(table[:, :4], graph=parents)
    assert set(layer.data[:, 0]) == {1, 2, 3, 7, 8, 9}
    assert layer.graph == {3: [2], 8: [2], 9: [7]}
    assert {int(row[0]) for row in table if row[6]} == {3, 8}
    assert table[table[:, 0] == 1, 1:4].tolist() == [[0, 0.5, 0.5], [1, 0.5, 0.5], [2, 0.5, 0.5]]
    assert table[table[:, 0] == 8, 4].tolist() == [2, 2]


def test_the_table_of_stacks_has_z(tmp_path):
    write_track_table(tmp_path / "a.csv", of(np.stack([MOVIE * 0, MOVIE]), "ZTYX"))
    with (tmp_path / "a.csv").open(newline="") as file:
        names, first, *_ = csv.reader(file)
    assert names[:5] == ["ID", "T", "Z", "Y", "X"]
    assert first == ["1", "0", "1", "0.5", "0.5", "1", "0", "0"]


def test_large_ids_are_whole_in_the_table(tmp_path):
    write_track_table(tmp_path / "a.csv", of(np.minimum(MOVIE, 1) * 2_147_483_645))
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("2147483645,0,")


def test_a_movie_without_cells(tmp_path):
    write_challenge(tmp_path / "RES", of(MOVIE * 0))
    assert check_challenge(tmp_path / "RES", 3)[1] == {}
    write_track_table(tmp_path / "a.csv", of(MOVIE * 0))
    assert (tmp_path / "a.csv").read_text() == "ID,T,Y,X,label,parent,division\n"
