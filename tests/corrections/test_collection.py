import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet.core.intensity import Statistics, measure
from napari_unet.corrections import collection as module
from napari_unet.corrections.annotations import Annotated, Correction, annotate
from napari_unet.corrections.collection import Collection, collection_of, find_collection
from napari_unet.corrections.entries import EntryFiles
from napari_unet.io.images import read_image


@pytest.fixture
def collection(tmp_path):
    return Collection(tmp_path / "corrections")


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def mask(shape, rows, columns):
    trusted = np.zeros(shape, bool)
    trusted[rows, columns] = True
    return trusted


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def add(collection, image, labels, trusted=None, name="cells", margin_px=8, classes=None):
    correction = Correction((), labels, trusted, classes or {})
    annotated = Annotated(image, "YX" if image.ndim == 2 else "CYX", (correction,), name)
    (entry,) = collection.add(annotated, margin_px)
    return entry


def test_a_correction_is_four_ordinary_files(collection, blobs):
    image, labels = blobs()
    trusted = mask(image.shape, slice(0, 40), slice(None))
    entry = add(collection, image, labels, trusted, name="My cells", classes={1: "dividing"})
    assert entry.key == "my-cells-0001"
    assert files(collection.folder) == {
        "images/my-cells-0001.tif",
        "labels/my-cells-0001.tif",
        "seen/my-cells-0001.tif",
        "my-cells-0001.json",
    }
    stored, truth, seen = (read_image(path) for path in collection.files(entry))
    assert [each.axes for each in (stored, truth, seen)] == ["YX"] * 3
    np.testing.assert_array_equal(stored.data, image)
    np.testing.assert_array_equal(truth.data, np.where(trusted, labels, 0))
    np.testing.assert_array_equal(seen.data, np.where(trusted, 255, 0))
    assert (stored.data.dtype, truth.data.dtype, seen.data.dtype) == (image.dtype, "u2", "u1")
    facts = json.loads((collection.folder / "my-cells-0001.json").read_text())
    assert facts == collection.facts(entry)
    assert facts["image"] == "My cells"
    assert facts["classes"] == {"1": "dividing"}
    assert facts["offset_px"] == [0, 0]
    assert facts["n_cells"] == entry.n_cells == 8
    assert facts["seen_px"] == entry.seen_px == 40 * 80
    assert entry.classes == ("cell", "dividing")
    assert (entry.image, entry.index, entry.shape) == ("My cells", (), (72, 80))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry.created)
    together = b"".join(path.read_bytes() for path in collection.files(entry))
    assert entry.sha256 == hashlib.sha256(together).hexdigest()
    assert collection.entries() == [entry] == Collection(collection.folder).entries()


def test_what_is_read_is_what_was_added(collection, blobs):
    image, labels = blobs()
    trusted = mask(image.shape, slice(5, 50), slice(10, 60))
    entry = add(collection, image, labels, trusted, classes={3: "a"})
    read = collection.read(entry)
    (correction,) = read.corrections
    assert (read.axes, read.name, correction.index) == ("YX", "cells", ())
    assert read.statistics == measure(image[None])
    assert correction.labels.dtype == np.int32
    assert correction.trusted.dtype == bool
    np.testing.assert_array_equal(read.image, image)
    np.testing.assert_array_equal(correction.trusted, trusted)
    np.testing.assert_array_equal(correction.labels[trusted], labels[trusted])
    assert correction.classes == {3: "a"}
    assert collection.add(read, 8) == [entry]


def test_without_a_mask_the_whole_plane_is_seen(collection, blobs):
    image, labels = blobs()
    entry = add(collection, image, labels)
    assert entry.seen_px == image.size
    assert collection.read(entry).corrections[0].trusted is None


@pytest.mark.parametrize(
    "dtype", [bool, "u1", ">u2", "i2", "i4", "u8", "f2", "f4", ">f8", np.longdouble]
)
@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (3, 5, 7), (1, 7), (1, 5, 7), (4, 1, 1)])
def test_pixels_of_every_kind(collection, dtype, shape):
    image = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    entry = add(collection, image, np.ones(shape[-2:], np.int32))
    read = collection.read(entry)
    np.testing.assert_array_equal(read.image.reshape(shape), image)
    assert read.image.dtype.newbyteorder("=") in (image.dtype.newbyteorder("="), np.float64)
    assert collection.add(read, 0) == [entry]


def test_given_statistics_are_kept(collection, blobs):
    image, labels = blobs()
    given = Statistics((1.5,), (300.25,))
    annotated = replace(annotate(image, "YX", labels), statistics=given)
    (entry,) = collection.add(annotated, 0)
    assert collection.read(entry).statistics == given


def test_each_plane_of_a_stack_is_an_entry(collection, blobs):
    stack = np.stack([[blobs(seed)[0]] * 2 for seed in range(3)])
    stack[:, 1] //= 2
    labels = np.stack([[blobs(seed)[1]] * 2 for seed in range(3)])
    trusted = np.ones_like(labels, bool)
    trusted[2, 0] = False
    annotated = replace(annotate(stack, "TZYX", labels, trusted), name="movie")
    entries = collection.add(annotated, 8)
    assert [e.key for e in entries] == [
        "movie-t000-z000-0001",
        "movie-t000-z001-0001",
        "movie-t001-z000-0001",
        "movie-t001-z001-0001",
        "movie-t002-z001-0001",
    ]
    assert entries[-1].index == (2, 1)
    np.testing.assert_array_equal(collection.read(entries[-1]).image, stack[2, 1])
    unseen = Correction((2, 0), labels[2, 0], trusted[2, 0])
    assert collection.add(Annotated(stack, "TZYX", (unseen,), "movie"), 8) == []


def test_large_planes_are_cut_to_what_was_seen(collection, monkeypatch):
    monkeypatch.setattr(module, "_WHOLE_PX", 1000)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 1000, (2, 60, 70), dtype=np.uint16)
    labels = np.zeros((60, 70), np.int32)
    labels[20:24, 30:35] = 70000
    trusted = mask((60, 70), slice(18, 26), slice(28, 37))
    entry = add(collection, image, labels, trusted, margin_px=5)
    assert entry.shape == (18, 19)
    assert collection.facts(entry)["offset_px"] == [13, 23]
    read = collection.read(entry)
    np.testing.assert_array_equal(read.image, image[:, 13:31, 23:42])
    np.testing.assert_array_equal(read.corrections[0].labels, labels[13:31, 23:42])
    assert read.statistics == measure(image)
    # Corrected again elsewhere: the box grows.
    elsewhere = mask((60, 70), slice(40, 45), slice(60, 65))
    again = add(collection, image, np.ones((60, 70), np.int32), elsewhere, margin_px=0)
    assert again.shape == (27, 37)
    assert again.seen_px == trusted.sum() + 25
    assert (again.n_cells, again.number) == (2, 2)


def test_the_same_plane_again_supersedes(collection, blobs):
    image, labels = blobs()
    top = mask(image.shape, slice(0, 20), slice(None))
    bottom = mask(image.shape, slice(40, 72), slice(None))
    first = add(collection, image, labels, top)
    before = contents(collection.folder)
    second = add(collection, image.copy(), labels[::-1, ::-1].copy(), bottom, name="renamed")
    assert second.key == "renamed-0002"
    assert second.fingerprint == first.fingerprint
    assert collection.entries() == [second]
    assert collection.entries(superseded=True) == [first, second]
    after = contents(collection.folder)
    assert {name: after[name] for name in before} == before
    (merged,) = collection.read(second).corrections
    np.testing.assert_array_equal(merged.trusted, top | bottom)
    np.testing.assert_array_equal(merged.labels[bottom], labels[::-1, ::-1][bottom])
    np.testing.assert_array_equal(merged.labels[top] > 0, labels[top] > 0)
    # Old and new can still be told apart, and the old one read.
    np.testing.assert_array_equal(collection.read(first).corrections[0].trusted, top)
    assert collection.find(first.key) == first


def test_nothing_new_is_no_new_entry(collection, blobs):
    image, labels = blobs()
    top = mask(image.shape, slice(0, 20), slice(None))
    first = add(collection, image, labels, classes={1: "a"})
    before = contents(collection.folder)
    assert add(collection, image, labels, classes={1: "a"}) == first
    # Other ids, and less seen, but nothing else.
    assert add(collection, image, 2 * labels, classes={2: "a"}, name="other") == first
    assert add(collection, image, np.where(labels, labels + 9, 0), ~labels.astype(bool)) == first
    assert contents(collection.folder) == before
    # A class is news.
    second = add(collection, image, labels, top, classes={2: "b"})
    assert second.number == 2


def test_images_of_the_same_name_are_not_the_same(collection, blobs):
    entries = [add(collection, *blobs(seed)) for seed in range(3)]
    assert [e.key for e in entries] == ["cells-0001", "cells-0002", "cells-0003"]
    assert collection.entries() == entries
    assert add(collection, blobs(0)[0], blobs(1)[1]).key == "cells-0004"
    assert [e.key for e in collection.entries()] == ["cells-0002", "cells-0003", "cells-0004"]


@pytest.mark.parametrize("name", ["", "..", "CON", "a/b", "細胞", "x" * 300, "a-0001", "a\nb"])
def test_keys_are_names_of_files_everywhere(collection, blobs, name):
    entry = add(collection, *blobs(), name=name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-0001", entry.key)
    assert entry.image == collection.read(entry).name == name
    assert add(collection, *blobs(1), name=name).number == 2


def test_what_cannot_be_added(collection, blobs):
    image, labels = blobs()
    for wrong, words in (
        (image[:-1], r"the labels are \(72, 80\) and the image is \(71, 80\); give one for each"),
        (image.astype(complex), "the image is complex128; give real numbers"),
        (np.full(image.shape, np.nan), "the image holds no finite number"),
    ):
        with pytest.raises(ValueError, match=words):
            add(collection, wrong, labels)
    assert not collection.folder.exists()


def test_a_failed_write_leaves_nothing_behind(collection, blobs, monkeypatch):
    entry = add(collection, *blobs())
    before = contents(collection.folder)
    rename = Path.replace
    for stop in ("images", "labels", "seen", "json"):

        def full(self, target, stop=stop):
            if stop in (target.parent.name, target.suffix[1:]):
                raise OSError(28, "No space left on device")
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            add(collection, *blobs(1))
        assert contents(collection.folder) == before
    monkeypatch.undo()
    assert collection.entries() == [entry]


def test_without_its_json_an_entry_does_not_exist(collection, blobs):
    first = add(collection, *blobs())
    second = add(collection, *blobs(1))
    (collection.folder / f"{second.key}.json").unlink()
    assert collection.entries() == [first]
    with pytest.raises(
        ValueError, match=r"no correction 'cells-0002' in .*; choose one of: cells-"
    ):
        collection.find(second.key)
    # The key is not taken again: the files of the other may still be being written.
    assert add(collection, *blobs(2)).key == "cells-0003"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe\0",
        b'{"format": 3}',
        b'{"format": "napari-unet correction 1"}',
    ],
)
def test_broken_and_foreign_files_are_left_out(collection, blobs, content):
    first, second = add(collection, *blobs()), add(collection, *blobs(1))
    path = collection.folder / f"{second.key}.json"
    path.write_bytes(content)
    (collection.folder / "notes.json").write_text("{}")
    (collection.folder / "images" / "mine.tif").write_bytes(b"")
    (collection.folder / "other-0001.json").mkdir()
    assert collection.entries(superseded=True) == [first]
    for read in (collection.read, collection.facts, lambda entry: collection.find(entry.key)):
        with pytest.raises(
            ValueError, match=r"'cells-0002' in .* cannot be read .*; put its files"
        ):
            read(second)
    assert add(collection, *blobs(1)).key == "cells-0003"
    assert collection.remove(second.key) == [second.key]
    assert not path.exists()


@pytest.mark.parametrize("fact", ["statistics", "classes", "shape", "offset_px", "identity"])
def test_a_fact_that_is_missing_is_named(collection, blobs, fact):
    entry = add(collection, *blobs())
    path = collection.folder / f"{entry.key}.json"
    facts = json.loads(path.read_text())
    del facts[fact]
    path.write_text(json.dumps(facts))
    assert collection.entries() == []
    with pytest.raises(ValueError, match=f"cannot be read .it lacks '{fact}'.; put its files back"):
        collection.read(entry)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_files_that_were_changed_are_told(collection, blobs, place, tmp_path):
    first = add(collection, *blobs(), mask((72, 80), slice(0, 9), slice(None)))
    entry = add(collection, *blobs())
    path = collection.files(entry)[place]
    content = path.read_bytes()
    for wrong in (content[:-5], b"", content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"seen pixels were changed.; put its files back as"):
            collection.read(entry)
    with pytest.raises(ValueError, match="cannot be read"):
        collection.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # The one before it can be read, and is what a new correction adds to.
    assert collection.entries() == [entry]
    bottom = mask((72, 80), slice(60, 72), slice(None))
    third = add(collection, *blobs(), bottom)
    assert (third.number, third.seen_px) == (3, first.seen_px + bottom.sum())
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be read .*; put its files back"):
        collection.read(entry)
    assert collection.entries(superseded=True) == [first, third]


def test_an_entry_that_lost_its_image_keeps_its_key(collection, blobs):
    first = add(collection, *blobs())
    collection.files(first)[0].unlink()
    assert collection.entries() == []
    assert add(collection, *blobs()).key == "cells-0002"
    assert not collection.files(first)[0].exists()


def test_remove_takes_what_came_before_along(collection, blobs):
    image, labels = blobs()
    other = add(collection, *blobs(1), name="other")
    before = contents(collection.folder)
    keys = [add(collection, image, labels, classes={1: name}).key for name in "abc"]
    assert collection.remove(keys[1]) == keys[:2]
    assert [e.key for e in collection.entries(superseded=True)] == [keys[2], other.key]
    assert collection.remove(keys[2]) == [keys[2]]
    assert contents(collection.folder) == before
    for key in (keys[0], "../cells-0001", "", "cells"):
        with pytest.raises(
            ValueError, match=r"there is no correction .*; choose one of: other-0001"
        ):
            collection.remove(key)
    collection.remove(other.key)
    assert files(collection.folder) == set()
    with pytest.raises(ValueError, match="choose one of: none yet"):
        collection.find("x-0001")


def test_export_is_a_collection_of_the_latest(collection, blobs, tmp_path):
    image, labels = blobs()
    add(collection, image, labels, mask(image.shape, slice(0, 9), slice(None)))
    latest = add(collection, image, labels)
    other = add(collection, *blobs(1), name="other")
    exported = collection.export(tmp_path / "new" / "folder")
    assert exported.entries(superseded=True) == [latest, other] == collection.entries()
    for name, content in contents(exported.folder).items():
        assert (collection.folder / name).read_bytes() == content
    np.testing.assert_array_equal(exported.read(latest).image, image)
    # A new correction of the plane goes on from there.
    assert add(exported, image, labels, classes={1: "a"}).number == 3


def test_export_overwrites_nothing(collection, blobs, tmp_path):
    with pytest.raises(ValueError, match="holds no corrections; correct an image first"):
        collection.export(tmp_path / "out")
    add(collection, *blobs())
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt", collection.folder):
        with pytest.raises(ValueError, match="is not empty; give a new or empty folder"):
            collection.export(folder)
    (tmp_path / "empty").mkdir()
    assert len(collection.export(tmp_path / "empty").entries()) == 1


def test_the_collection_of_a_model(store, add_model, blobs, tmp_path, monkeypatch):
    own = collection_of(store, "mine")
    assert own.folder == store.root / "mine" / "corrections"
    with pytest.raises(ValueError, match="cannot be a model's name"):
        collection_of(store, "../mine")
    with pytest.raises(ValueError, match="no model or folder 'mine'; choose one of: none yet, or"):
        find_collection(store, "mine")
    add_model("mine")
    for reference in ("mine", "mine@1"):
        assert find_collection(store, reference).folder == own.folder
    add(own, *blobs())
    assert store.names() == ["mine"]
    assert [v.reference for v in store.versions("mine")] == ["mine@1"]
    store.remove("mine@1")
    assert find_collection(store, "mine").folder == own.folder
    exported = own.export(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for reference in ("./mine", str(exported.folder)):
        assert len(find_collection(store, reference).entries()) == 1
        assert find_collection(store, reference).folder.samefile(exported.folder)
    shutil.rmtree(own.folder)
    assert find_collection(store, "mine").folder == Path("mine")


def test_threads_that_add_at_once_take_keys_of_their_own(collection, blobs):
    barrier, entries, errors = threading.Barrier(4), [], []

    def work(start):
        barrier.wait()
        try:
            entries.extend(add(collection, *blobs(start + n)) for n in range(4))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({e.key for e in entries}) == 16
    assert collection.entries() == sorted(entries, key=lambda e: e.key)
    assert not [name for name in files(collection.folder) if name.endswith(".part")]


@pytest.mark.slow
def test_programs_that_correct_the_same_plane_lose_nothing(collection, tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    program = (
        "import sys, numpy as np\n"
        "from napari_unet.corrections.collection import Collection\n"
        "from napari_unet.corrections.annotations import Annotated, Correction\n"
        "from napari_unet.io.images import read_image\n"
        "image = read_image(__import__('pathlib').Path(sys.argv[1])).data\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for row in range(int(sys.argv[3]), 8, 2):\n"
        "    seen = np.zeros((64, 64), bool)\n"
        "    seen[8 * row : 8 * row + 8] = True\n"
        "    labels = np.where(seen, 1, 0).astype(np.int32)\n"
        "    item = Annotated(image, 'YX', (Correction((), labels, seen),), 'i')\n"
        "    print(Collection(sys.argv[2]).add(item, 0)[0].key)\n"
    )
    programs = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                program,
                str(tmp_path / "i.tif"),
                str(collection.folder),
                str(n),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for each in programs:
        assert each.stdout.readline() == "ready\n"
    for each in programs:
        each.stdin.write("go\n")
        each.stdin.flush()
    keys = [line for each in programs for line in each.communicate()[0].split()]
    assert len(set(keys)) == 8
    (latest,) = collection.entries()
    assert latest.key == max(keys)
    assert (latest.seen_px, latest.n_cells) == (64 * 64, 8)


def test_the_widget_loads_neither_readers_nor_networks():
    program = (
        "import sys\n"
        "import napari_unet.corrections.collection, napari_unet.corrections.drafts\n"
        "print(sorted({'torch', 'skimage', 'tifffile', 'imageio', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_each_file_is_read_once_while_nothing_changes(collection, monkeypatch):
    labels = np.zeros((16, 16), np.int32)
    labels[2:6, 2:6] = 1
    for number in range(12):
        add(collection, np.full((16, 16), number, np.uint8), labels, name=f"image {number}")
    reads, asked = [], []
    loads, facts = json.loads, EntryFiles.facts
    monkeypatch.setattr(json, "loads", lambda text: reads.append(1) or loads(text))
    anew = Collection(collection.folder)
    entries = anew.entries()
    monkeypatch.setattr(
        EntryFiles, "facts", lambda self, key: asked.append(key) or facts(self, key)
    )
    for entry in entries:
        assert (anew.seen_in(entry, {e.key for e in entries})).all()
    assert len(reads) == len(entries) == 12
    assert len(asked) <= 4 * len(entries), "not each entry for each other one"


def test_a_file_that_changed_is_read_again(collection, blobs):
    entry = add(collection, *blobs())
    path = collection.folder / f"{entry.key}.json"
    path.write_text(path.read_text("utf-8").replace('"cells"', '"other cells"'), "utf-8")
    assert collection.find(entry.key).image == "other cells"
