"""Programs that are killed while they save: nothing is unreadable, nothing lost, nothing left over.

    python tests/fuzz/killed_saves.py [--count 1000] [--seed 0]

A process saves one after the other: a new version of a model, labels as tif, a table, strokes of a
draft, and tells what was saved. It is killed (SIGKILL) at a random moment. Then the next process
begins: each version that was told is there and is what was written, each file can be read, and no
unfinished one is left. POSIX alone, which can fork and kill.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.corrections.drafts import Drafts
from napari_unet.io import atomic as safe_files
from napari_unet.io.images import read_image, write_labels
from napari_unet.models.checkpoint import load_model, save_model
from napari_unet.models.header import ModelHeader
from napari_unet.models.store import ModelStore
from napari_unet.segmentation.measurements import write_table

# A version is removed when so many are newer, so that the disk does not fill.
_KEPT = 20


def save(folder: Path, number: int, tell: Callable[[str], Any]) -> None:
    """Save one thing after the other, for ever; `tell` is given each new version's name."""
    network = UNet(UNetConfig(depth=1, width=16, dropout=0.0))
    initialise(network, 0)
    store, drafts = ModelStore(folder / "models"), Drafts(folder / "drafts")
    baseline = np.zeros((64, 64), np.int32)
    drafts.begin("image", baseline, {})
    for turn in count(1):
        mark = number * 1000 + turn
        header = ModelHeader(name="cells", architecture={}, steps=mark)
        added = store.add("cells", lambda path, header=header: save_model(path, network, header))
        tell(f"{added.version} {mark}\n")
        write_labels(folder / "labels.tif", np.full((64, 64), turn, np.int32), "YX")
        write_table(folder / "cells.csv", {"label": [turn] * 50, "area": [turn] * 50})
        drafts.save_plane("image", (), np.arange(turn % 50 + 1), np.full(turn % 50 + 1, turn, "i4"))


def check(folder: Path, told: dict[int, int]) -> None:
    """What the next process finds.

    Raises
    ------
    AssertionError
        Says what is lost, cannot be read, or is left over.
    """
    # As in a process that has not written yet.
    safe_files._cleaned.clear()
    store, drafts = ModelStore(folder / "models"), Drafts(folder / "drafts")
    found = {model.version: model for model in store.versions("cells")}
    assert told.keys() <= found.keys(), f"lost: {sorted(told.keys() - found.keys())}"
    for version, mark in told.items():
        assert found[version].header.steps == mark, f"version {version} is another one"
    files = {path.name for path in folder.glob("models/cells/*")}
    expected = {model.path.name for model in found.values()}
    # One that was written, and not accepted any more.
    expected |= {m.path.with_suffix(".refused").name for m in found.values() if m.refused}
    assert files - expected <= {"active"}, f"left over: {sorted(files - expected)}"
    if found:
        load_model(found[max(found)].path)
        assert store.find("cells").version in found
    if (folder / "labels.tif").exists():
        assert len(np.unique(read_image(folder / "labels.tif").data)) == 1
    if (folder / "cells.csv").exists():
        assert len((folder / "cells.csv").read_text().splitlines()) == 51
    if (drafts.root / "image" / "info.json").exists():
        draft = drafts.load("image")
        assert draft is not None, "the draft cannot be read"
        assert not draft.damaged
    # The next to write beside them deletes what is left of labels, tables and drafts.
    write_table(folder / "other.csv", {"label": [1]})
    drafts.begin("image", np.zeros((64, 64), np.int32), {})
    left = [str(path) for path in folder.rglob("*.part")]
    assert not left, f"left over: {left}"
    for version in sorted(found):
        if told and version < min(sorted(told)[-_KEPT:]):
            store.remove(f"cells@{version}")


def run(times: int, seed: int, folder: Path) -> dict[str, int]:
    """Kill so many processes; gives how many versions they saved, and how many left something."""
    rng = random.Random(seed)
    told: dict[int, int] = {}
    done = {"killed": 0, "versions": 0, "left_something": 0}
    for number in range(times):
        new = _killed(folder, number, rng)
        told |= new
        done["killed"] += 1
        done["versions"] += len(new)
        done["left_something"] += any(folder.rglob("*.part"))
        _in_child(partial(check, folder, told))
        told = {version: told[version] for version in sorted(told)[-_KEPT:]}
    return done


def _killed(folder: Path, number: int, rng: random.Random) -> dict[int, int]:
    """Let a process save, kill it in its second or third turn; the versions that it told."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(out)
            safe_files._cleaned.clear()
            save(folder, number, lambda line: os.write(into, line.encode()))
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        start = time.monotonic()
        text = b"".join(pipe.readline() for _ in range(rng.choice([1, 2])))
        # Somewhere in a turn, which takes longer on a busy computer.
        time.sleep(rng.uniform(0, 1.5) * (time.monotonic() - start))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        text += pipe.read()
    assert os.WIFSIGNALED(status), "it ended before it was killed"
    lines = [line.split() for line in text.decode().splitlines()]
    return {int(version): int(mark) for version, mark in lines}


def _in_child(work: Callable[[], None]) -> None:
    """Do something in a process of its own, as the next start of the program does."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            os.write(into, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(1)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, value in run(options.count, options.seed, Path(folder)).items():
            print(f"{name:15} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
