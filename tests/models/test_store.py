import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from napari_unet.models import store as model_store
from napari_unet.models.checkpoint import load_model
from napari_unet.models.header import ModelFileError
from napari_unet.models.store import ModelStore, check_name


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def shipped(models_folder, write_model):
    """A model `nuclei` that ships with the program."""
    model_store.SHIPPED.mkdir()
    path = model_store.SHIPPED / "nuclei.safetensors"
    write_model(path, name="nuclei", trained_on=("shipped",))
    return path


def child_of(store, add_model, parent, seed=0):
    return add_model(parent.name, parent=parent.sha256(), seed=seed)


def test_an_empty_store_says_what_to_do(store):
    assert store.names() == []
    assert store.versions("nuclei") == []
    with pytest.raises(
        ModelFileError, match=r"no model 'nuclei'; choose one of: none yet, or give"
    ):
        store.find("nuclei")


def test_the_folder_is_the_one_the_environment_names(models_folder, tmp_path, monkeypatch):
    assert ModelStore().root == models_folder
    assert ModelStore(tmp_path).root == tmp_path
    monkeypatch.delenv("NAPARI_UNET_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    root = ModelStore().root
    assert root.name == "models"
    assert root.parent.name == "napari-unet"


def test_versions_count_up_and_the_newest_is_active(store, add_model):
    models = [add_model("cells") for _ in range(3)]
    assert [m.version for m in models] == [1, 2, 3]
    assert [m.reference for m in models] == ["cells@1", "cells@2", "cells@3"]
    assert store.versions("cells") == models
    assert store.find("cells") == models[2]
    assert store.names() == ["cells"]
    assert files(store.root) == {
        "cells/0001.safetensors",
        "cells/0002.safetensors",
        "cells/0003.safetensors",
        "cells/active",
    }


def test_finding_by_version_path_and_itself(store, add_model, tmp_path):
    first, second = add_model("cells"), add_model("cells")
    assert store.find("cells@1") == first
    assert store.find("cells@0002") == second
    assert store.find(first) is first
    for given in (first.path, str(first.path)):
        found = store.find(given)
        assert found.path == first.path
        assert found.header == first.header
        assert (found.version, found.name, found.reference) == (0, "cells", str(first.path))


@pytest.mark.parametrize(
    "reference",
    ["cells@3", "cells@0", "cells@x", "cells@", "cells@-1", "cells@1@1", "cell", "", "@1", "../x",
     "..", "cells/0001", "/etc/passwd", "NUL"],
)  # fmt: skip
def test_what_is_no_model_names_those_there_are(store, add_model, reference):
    add_model("cells")
    add_model("cells")
    with pytest.raises(ModelFileError) as caught:
        store.find(reference)
    assert str(caught.value) == (
        f"there is no model {reference!r}; choose one of: cells@1, cells@2, "
        "or give the path of a .safetensors file"
    )


def test_a_path_that_is_no_file(store, tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path / "none.bin"):
        with pytest.raises(ModelFileError, match="there is no file"):
            store.find(path)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "C:\\x", "CON", "nul", "nul.txt", "com1", ".hidden",
     "-x", "a b", "a@1", "a\n", "a\0", "x.safetensors", "dot.", "ä", "a" * 101],
)  # fmt: skip
def test_names_that_are_no_file_names_are_refused(store, name):
    written = []
    with pytest.raises(ValueError, match="cannot be a model's name; use"):
        store.add(name, written.append)
    assert written == []
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["a", "nuclei-2d_v1.5", "CONE", "console", "9", "a" * 100])
def test_names_that_are(store, add_model, name):
    check_name(name)
    assert store.find(add_model(name).name).name == name


def test_activate_chooses_what_the_name_stands_for(store, add_model):
    first, second = add_model("cells"), add_model("cells")
    store.activate(first)
    assert store.find("cells") == first
    assert ModelStore(store.root).find("cells") == first
    third = add_model("cells")
    assert store.find("cells") == third
    store.activate(second)
    assert store.find("cells") == second


@pytest.mark.parametrize("content", ["", "nonsense", "99", "-1"])
def test_a_pointer_that_points_nowhere_means_the_newest(store, add_model, content):
    add_model("cells")
    newest = add_model("cells")
    (store.root / "cells" / "active").write_text(content)
    assert store.find("cells") == newest
    (store.root / "cells" / "active").unlink()
    assert store.find("cells") == newest


def test_revert_walks_back_along_the_parents(store, add_model):
    first = add_model("cells")
    second = child_of(store, add_model, first, 2)
    third = child_of(store, add_model, second, 3)
    assert store.parent(third) == second
    assert store.revert("cells") == second
    assert store.revert("cells") == first
    assert store.find("cells") == first
    with pytest.raises(ModelFileError, match="cells@1 has no earlier version of its own; choose"):
        store.revert("cells")
    assert store.versions("cells") == [first, second, third]
    # A child of an old version is a branch of its own.
    fourth = child_of(store, add_model, first, 4)
    assert fourth.version == 4
    assert store.revert("cells") == first


def test_a_parent_of_another_name_is_no_version_to_go_back_to(store, add_model):
    parent = add_model("general")
    child = add_model("mine", parent=parent.sha256())
    assert store.parent(child) == parent
    with pytest.raises(ModelFileError, match="mine@1 has no earlier version of its own"):
        store.revert("mine")
    orphan = add_model("orphan", parent="ab" * 32)
    assert store.parent(orphan) is None
    assert store.parent(parent) is None


def test_going_back_hashes_no_more_files_than_it_must(store, add_model, monkeypatch):
    model = add_model("cells")
    for seed in range(1, 4):
        model = child_of(store, add_model, model, seed)
    hashed = []
    sha256 = model_store.ModelVersion.sha256
    monkeypatch.setattr(
        model_store.ModelVersion, "sha256", lambda self: hashed.append(self.version) or sha256(self)
    )
    store.revert("cells")
    assert hashed == [3]


def test_the_hash_is_that_of_the_file(add_model):
    model = add_model("cells")
    assert model.sha256() == hashlib.sha256(model.path.read_bytes()).hexdigest()


def test_the_shipped_model_is_version_1(store, shipped, add_model):
    model = store.find("nuclei")
    assert (model.reference, model.path, model.shipped) == ("nuclei@1", shipped, True)
    assert not store.root.exists()
    child = child_of(store, add_model, model)
    assert (child.version, child.shipped) == (2, False)
    assert store.versions("nuclei") == [model, child]
    assert store.find("nuclei") == child
    assert store.revert("nuclei") == model
    assert store.find("nuclei") == model


def test_what_is_learnt_from_a_shipped_model_goes_to_one_of_its_own(store, shipped, add_model):
    assert store.name_for_own(store.find("nuclei")) == "my-nuclei"
    assert store.name_for_own(store.find(shipped)) == "my-nuclei"
    own = add_model("my-nuclei")
    assert store.name_for_own(own) == "my-nuclei"
    assert store.name_for_own(store.find("nuclei")) == "my-nuclei-2"
    add_model("my-nuclei-2")
    assert store.name_for_own(store.find("nuclei")) == "my-nuclei-3"


def test_corrections_alone_do_not_take_a_name(store, shipped):
    # A fine-tune was cancelled: the next one is to find what was kept.
    (store.root / "my-nuclei" / "corrections").mkdir(parents=True)
    assert store.name_for_own(store.find("nuclei")) == "my-nuclei"


def test_a_version_that_is_not_activated_is_kept_and_not_meant(store, shipped, write_model):
    for name in ("nuclei", "cells"):
        if name == "cells":
            store.add(name, lambda path: write_model(path, name="cells"))
        before = store.find(name)
        added = store.add(name, lambda path: write_model(path, seed=1), activate=False)
        assert added.version == before.version + 1
        assert store.find(name) == before
        assert store.find(added.reference) == added
        store.activate(added)
        assert store.find(name) == added


@pytest.fixture
def refuse(store, write_model):
    """Adds a version that the check refused."""

    def refuse(name="cells", **header):
        given = {"name": name, **header}
        return store.add(name, lambda path: write_model(path, **given), activate=False)

    return refuse


def test_a_refused_version_is_meant_by_its_number_alone(store, add_model, refuse, tmp_path):
    kept = add_model("cells")
    (store.root / "cells" / "active").unlink()
    refused = refuse()
    assert (refused.reference, refused.refused, kept.refused) == ("cells@2", True, False)
    assert ModelStore().find("cells") == kept
    # A pointer that a crash left behind does not make it accepted.
    (store.root / "cells" / "active").write_text("2")
    assert ModelStore().find("cells") == kept
    assert store.find("cells@2") == store.find(refused) == refused
    assert store.versions("cells") == [kept, refused]
    assert store.accepted("cells") == [kept]
    with pytest.raises(ModelFileError, match=r"choose one of: cells@1, or give"):
        store.find("none")
    assert store.export("cells@2", tmp_path / "out.safetensors").exists()
    store.remove("cells@1")
    with pytest.raises(ModelFileError, match="no version of 'cells' was accepted by its check; "):
        store.find("cells")


def test_a_name_of_refused_versions_alone_does_not_exist(store, shipped, refuse):
    for number in (1, 2):
        assert store.name_for_own(store.find("nuclei")) == "my-nuclei"
        assert refuse("my-nuclei").version == number
    assert store.names() == ["nuclei"]
    assert store.names(refused=True) == ["nuclei", "my-nuclei"]
    with pytest.raises(ModelFileError) as caught:
        store.find("my-nuclei")
    assert str(caught.value) == (
        "no version of 'my-nuclei' was accepted by its check; fine-tune again, or give a version "
        "to use it all the same: my-nuclei@1, my-nuclei@2"
    )
    assert store.name_for_own(store.find("my-nuclei@1")) == "my-nuclei"
    store.remove("my-nuclei@1")
    assert store.export("my-nuclei@2", store.root).name == "my-nuclei.safetensors"
    (store.root / "my-nuclei.safetensors").unlink()
    store.activate(store.find("my-nuclei@2"))
    assert store.find("my-nuclei").version == 2
    assert store.name_for_own(store.find("nuclei")) == "my-nuclei-2"
    store.remove("my-nuclei")
    assert files(store.root) == set()


def test_what_is_accepted_by_the_user_is_accepted_for_good(store, add_model, refuse):
    first, used, last = add_model("cells"), refuse(), refuse()
    store.activate(used)
    assert store.find("cells") == used
    store.activate(first)
    assert not store.find("cells@2").refused
    store.remove("cells@1")
    assert store.find("cells") == used
    assert store.import_file(last.path).reference == "cells@4"


def test_versions_of_earlier_releases_count_as_accepted(store, add_model):
    add_model("cells"), add_model("cells")
    (store.root / "cells" / "active").unlink()
    assert store.find("cells").version == 2
    assert store.names() == ["cells"]


def test_the_way_back_passes_over_what_was_refused(store, add_model, refuse):
    first = add_model("cells")
    refused = refuse(parent=first.sha256(), seed=1)
    third = child_of(store, add_model, refused, 2)
    assert store.parent(third) == refused
    assert store.revert("cells") == first
    assert store.find("cells@2").refused
    alone = child_of(store, add_model, refuse("mine"), 3)
    assert store.find("mine") == alone
    with pytest.raises(ModelFileError, match="mine@2 has no earlier version of its own"):
        store.revert("mine")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("accepted", [False, True])
def test_a_kill_at_any_moment_makes_no_default_of_what_was_not_accepted(
    tmp_path, store, shipped, add_model, accepted
):
    # One process forks for each moment, which is quicker than to start Python for each.
    program = (
        "import os, shutil, signal, sys\n"
        "from napari_unet.models.store import ModelStore\n"
        "_, source, accepted = sys.argv\n"
        "write = lambda path: shutil.copyfile(source, path)\n"
        "def add(name, left):\n"
        "    def count(event, args):\n"
        "        nonlocal left\n"
        "        if event in ('open', 'os.rename', 'os.remove') and name in str(args[0]):\n"
        "            left -= 1\n"
        "            if left < 0:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "    sys.addaudithook(count)\n"
        "    try:\n"
        "        ModelStore().add(name, write, activate=accepted == 'True')\n"
        "    except BaseException:\n"
        "        os._exit(1)\n"
        "    os._exit(0)\n"
        "for line in sys.stdin:\n"
        "    name, left = line.split()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        add(name, int(left))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n"
    )
    source = add_model("source", trained_on=("new",))
    command = [sys.executable, "-W", "ignore", "-c", program, str(source.path), str(accepted)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as adding:
        for moment in range(100):
            old, new = f"old{moment}", f"new{moment}"
            kept = add_model(old)
            (store.root / old / "active").unlink()
            for name in (old, new):
                print(name, moment, file=adding.stdin, flush=True)
                ended = int(adding.stdout.readline())
                assert ended in (0, -signal.SIGKILL)
                meant = store.find(name) if name in store.names() else None
                if ended == 0 and accepted:
                    assert meant.header.trained_on == ("new",)
                elif not accepted:
                    assert meant == (kept if name == old else None)
                if meant is None:
                    assert not any(
                        map(model_store._takes_its_name, (store.root / name).glob("*.saf*"))
                    )
                taken = {path.name for path in (store.root / name).glob("*.safetensors")}
                assert add_model(name).path.name not in taken
                assert store.find(name).header.trained_on == ()
            if ended == 0:
                break
        assert 3 < moment < 99


def test_names_list_the_shipped_first(store, shipped, add_model):
    add_model("zebra")
    add_model("ant")
    add_model("nuclei")
    assert store.names() == ["nuclei", "ant", "zebra"]


def test_remove_deletes_one_version_and_the_newest_takes_over(store, add_model):
    first, second, third = (add_model("cells") for _ in range(3))
    assert store.remove("cells@3") == third
    assert not third.path.exists()
    assert store.find("cells") == second
    store.activate(first)
    store.remove("cells@2")
    assert store.find("cells") == first
    store.remove("cells")
    assert store.names() == []
    assert files(store.root) == set()


def test_remove_refuses_what_is_not_in_the_store(store, shipped, add_model, tmp_path):
    before = shipped.read_bytes()
    outside = tmp_path / "outside.safetensors"
    shutil.copy(shipped, outside)
    for reference in ("nuclei", "nuclei@1", str(outside)):
        with pytest.raises(ModelFileError, match="is not in the store; nothing was removed"):
            store.remove(reference)
    with pytest.raises(ModelFileError, match="there is no model 'none'"):
        store.remove("none")
    assert shipped.read_bytes() == before == outside.read_bytes()


def test_a_removed_number_may_come_back_as_another_model(store, add_model):
    add_model("cells")
    old = add_model("cells", trained_on=("old",))
    store.remove("cells@2")
    new = add_model("cells", trained_on=("new",))
    assert new.path == old.path
    assert store.find("cells@2").header.trained_on == ("new",)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64, b"\x05\0\0\0\0\0\0\0{}{}{}"])
def test_broken_files_are_left_out_of_lists_and_named_when_asked_for(store, add_model, content):
    first, second = add_model("cells"), add_model("cells")
    second.path.write_bytes(content)
    assert store.versions("cells") == [first]
    assert store.names() == ["cells"]
    assert store.find("cells") == first
    for reference in ("cells@2", second.path):
        with pytest.raises(
            ModelFileError, match=r"0002\.safetensors is not a model of napari-unet"
        ):
            store.find(reference)
    first.path.write_bytes(content)
    assert store.names() == []
    with pytest.raises(ModelFileError, match=r"0002\.safetensors is not a model of napari-unet"):
        store.find("cells")
    assert add_model("cells").version == 3


def test_foreign_files_and_folders_are_left_alone(store, add_model):
    model = add_model("cells")
    (store.root / "cells" / "notes.safetensors").write_bytes(b"")
    (store.root / "cells" / "x.txt").write_text("")
    (store.root / "my models").mkdir()
    shutil.copy(model.path, store.root / "my models" / "0001.safetensors")
    (store.root / "loose.safetensors").write_bytes(b"")
    assert store.names() == ["cells"]
    assert store.versions("cells") == [model]


def test_a_failed_write_leaves_nothing_behind(store, add_model):
    model = add_model("cells")
    before = files(store.root)

    def stopped(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add("cells", stopped)
    with pytest.raises(ModelFileError, match="is not a model"):
        store.add("cells", lambda path: path.write_bytes(b"no model"))
    with pytest.raises(OSError, match="full"):
        store.add("cells", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
    assert files(store.root) == before
    assert store.find("cells") == model


def test_a_pointer_that_cannot_be_written_stays_as_it_was(store, add_model, monkeypatch):
    first, second = add_model("cells"), add_model("cells")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.activate(first)
    monkeypatch.undo()
    assert store.find("cells") == second
    assert not [name for name in files(store.root) if "part" in name]


def test_a_reservation_is_no_version(store, add_model):
    seen = []
    model = add_model("cells")

    def write(path):
        seen.append((path.exists(), store.versions("cells"), store.find("cells")))
        shutil.copy(model.path, path)

    added = store.add("cells", write)
    assert seen == [(True, [model], model)]
    assert added.version == 2


def test_threads_that_add_at_once_get_versions_of_their_own(store, add_model, tmp_path):
    source = add_model("source").path
    barrier, added, errors = threading.Barrier(8), [], []

    def work():
        barrier.wait()
        try:
            store = ModelStore()
            for _ in range(5):
                version = store.add("cells", lambda path: shutil.copyfile(source, path)).version
                added.append(version)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(added) == list(range(1, 41))
    assert len(store.versions("cells")) == 40
    assert not [name for name in files(store.root) if name.endswith(".part")]


def test_programs_that_add_at_once_get_versions_of_their_own(store, add_model):
    program = (
        "import shutil, sys\n"
        "from napari_unet.models.store import ModelStore\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(5):\n"
        "    add = ModelStore().add('cells', lambda path: shutil.copyfile(sys.argv[1], path))\n"
        "    print(add.version)\n"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(add_model("source").path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in programs:
        assert each.stdout.readline() == "ready\n"
    for each in programs:
        each.stdin.write("go\n")
        each.stdin.flush()
    added = [int(line) for each in programs for line in each.communicate()[0].split()]
    assert sorted(added) == list(range(1, 11))


def test_import_and_export_round_trip(store, add_model, tmp_path):
    model = add_model("cells", seed=3, trained_on=("mine",))
    out = store.export("cells", tmp_path / "new folder" / "x.safetensors")
    assert out.read_bytes() == model.path.read_bytes()
    back = store.import_file(out)
    assert back.reference == "cells@2"
    assert back.header == model.header
    assert store.find("cells") == back
    other = store.import_file(out, "mine")
    assert (other.reference, other.header.name) == ("mine@1", "cells")
    assert store.find(out).header == model.header


def test_export_into_a_folder_takes_the_models_name(store, add_model, tmp_path):
    model = add_model("cells")
    out = store.export("cells@1", tmp_path)
    assert out == tmp_path / "cells.safetensors"
    assert out.read_bytes() == model.path.read_bytes()


@pytest.mark.parametrize("half", [False, True])
def test_export_replaces_models_alone(store, add_model, tmp_path, half):
    add_model("cells")
    notes = tmp_path / "notes.txt"
    notes.write_text("a year of work")
    with pytest.raises(ModelFileError, match=r"notes.txt is there already and is no model of"):
        store.export("cells", notes, half=half)
    assert notes.read_text() == "a year of work"
    out = store.export("cells", tmp_path / "m.safetensors")
    assert store.export("cells", out, half=half) == out


def test_export_in_half_precision_is_smaller_and_nearly_the_same(store, add_model, tmp_path):
    model = add_model("cells", width=8)
    out = store.export(model, tmp_path / "new" / "half.safetensors", half=True)
    assert out.stat().st_size < 0.7 * model.path.stat().st_size
    (whole, header), (half, half_header) = load_model(model.path), load_model(out)
    assert half_header == dataclasses.replace(header, architecture=half_header.architecture)
    for name, tensor in half.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_not_imported(store, write_model, tmp_path, share):
    path = tmp_path / "m.safetensors"
    write_model(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"is broken|is not a model"):
        store.import_file(path)
    assert not store.root.exists()


def test_import_of_what_is_not_there(store, tmp_path):
    with pytest.raises(ModelFileError, match="there is no file"):
        store.import_file(tmp_path / "none.safetensors")


def test_a_name_in_a_foreign_header_does_not_lead_out_of_the_store(store, write_model, tmp_path):
    path = tmp_path / "m.safetensors"
    write_model(path, name="../../evil")
    for name in (None, "good"):
        with pytest.raises(ModelFileError, match=r"is broken: its entry name is '../../evil'"):
            store.import_file(path, name)
    assert not (tmp_path / "evil").exists()
    assert not store.root.exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(store, add_model):
    add_model("cells")
    (store.root / "cells").chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            add_model("cells")
    finally:
        (store.root / "cells").chmod(0o700)


@pytest.fixture
def closed(tmp_path):
    """A folder that nobody may write to, not even root."""
    folder = tmp_path / "closed"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "test", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("inside", ["", "new/folder"])
def test_that_models_cannot_be_stored_is_told_before_the_work(
    closed, inside, write_model, tmp_path, blobs
):
    from napari_unet.config import FinetuneConfig
    from napari_unet.corrections.annotations import annotate
    from napari_unet.service.segmentation import SegmentationService

    folder, file = closed / inside, tmp_path / "m.safetensors"
    write_model(file)
    service = SegmentationService(ModelStore(folder))
    annotated, config = [annotate(*blobs()[:1], "YX", blobs()[1])], FinetuneConfig(steps=1)
    for work in (
        lambda: service.train(annotated, "mine", config),
        lambda: service.finetune(annotated, file, config, "mine"),
        lambda: service.store.import_file(file),
    ):
        with pytest.raises(ModelFileError, match=r"Read-only file system.*NAPARI_UNET_MODELS"):
            work()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 100 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "test", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_model(small_disk, write_model, tmp_path):
    store, large = ModelStore(small_disk / "models"), tmp_path / "large.safetensors"
    old = store.add("cells", lambda path: write_model(path, name="cells"))
    before = old.path.read_bytes()
    write_model(large, name="cells", width=40)
    assert large.stat().st_size > 100_000
    with pytest.raises(OSError, match="No space left on device") as refusal:
        store.import_file(large, "cells")
    assert "small/models" in str(refusal.value)
    assert old.path.read_bytes() == before
    assert store.versions("cells") == [old]
    assert store.find("cells") == old
    names = sorted(path.name for path in old.path.parent.iterdir())
    assert names == ["0001.safetensors", "active"]
    # There is room again for what fits.
    assert store.add("cells", lambda path: write_model(path, name="cells")).version == 2


def test_listing_models_loads_no_torch(store, add_model):
    add_model("cells")
    program = (
        "import sys\n"
        "from napari_unet.models.store import ModelStore\n"
        "store = ModelStore()\n"
        "print([v.reference for n in store.names() for v in store.versions(n)][-1])\n"
        "store.activate(store.find('cells'))\n"
        "heavy = {'torch', 'safetensors', 'napari', 'qtpy', 'scipy', 'skimage'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["cells@1", "[]"], "")


def test_a_renamed_model_keeps_its_versions_and_its_corrections(store, add_model):
    add_model("cells")
    second = add_model("cells")
    (store.root / "cells" / "corrections").mkdir()
    renamed = store.rename("cells", "lobes")
    assert renamed.reference == "lobes@2"
    assert len(store.versions("lobes")) == second.version == 2
    assert (store.root / "lobes" / "corrections").is_dir()
    assert "cells" not in store.names()


def test_a_name_that_is_taken_or_none_is_refused(store, add_model):
    add_model("cells")
    add_model("lobes")
    with pytest.raises(ModelFileError, match="'lobes' already; give another name"):
        store.rename("cells", "lobes")
    with pytest.raises(ValueError, match="cannot be a model's name"):
        store.rename("cells", "../lobes")
    assert {"cells", "lobes"} <= set(store.names())
