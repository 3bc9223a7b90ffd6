"""Saves strokes while they are painted, so that a crash of napari loses at most the last one."""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Mapping

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_unet.config import Channel
from napari_unet.corrections.drafts import Draft, Drafts, fingerprint
from napari_unet.plugin.edits.draft_cells import pending
from napari_unet.plugin.edits.features import show_features
from napari_unet.plugin.edits.seen import States
from napari_unet.plugin.edits.tracker import Changes, Memo
from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.layers import Index, LayerImage, stack_shape
from napari_unet.plugin.viewer.record import record_of

logger = logging.getLogger(__name__)


class Autosave:
    """Keeps a draft of the corrections of each image up to date.

    All methods may take long: call them in one background thread.

    Parameters
    ----------
    drafts
        The folder of drafts.
    """

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self._keys: dict[str, str] = {}
        # For each draft: whose labels it holds, and what was saved.
        self._owners: dict[str, object] = {}
        self._saved: dict[str, dict[Index, Changes]] = {}
        self._infos: dict[str, dict[str, object]] = {}
        # Drafts in other folders: the key of an image layer, and where a key leads.
        self._given: dict[str, str] = {}
        self._elsewhere: dict[str, tuple[Drafts, str]] = {}

    def keep_in(self, unique_id: str, key: str, drafts: Drafts, name: str) -> None:
        """Keep the draft of an image layer in another folder of drafts, under a name of its own.

        Parameters
        ----------
        unique_id
            Of the image layer.
        key
            The key of its draft from now on.
        drafts, name
            Where the draft is, and its key there.
        """
        self._given[unique_id], self._elsewhere[key] = key, (drafts, name)

    def let_go(self, unique_id: str, key: str) -> None:
        """Forget an image layer of `keep_in`: what is saved stays."""
        self._given.pop(unique_id, None)
        for known in (self._owners, self._saved, self._infos):
            known.pop(key, None)

    def key_of(self, unique_id: str, source: LayerImage, name: str) -> str:
        """Return the key of an image layer's draft; reads the image's first plane."""
        if unique_id in self._given:
            return self._given[unique_id]
        known = f"{unique_id} {name}"
        if known not in self._keys:
            self._keys[known] = fingerprint(source.data, source.axes, name)
        return self._keys[known]

    def save(
        self,
        key: str,
        owner: object,
        baseline: NDArray[np.int32],
        info: Mapping[str, object],
        changes: Mapping[Index, Changes],
    ) -> None:
        """Save the planes and facts that changed since the last call.

        Parameters
        ----------
        key
            The key of the draft.
        owner
            Identifies the labels. Labels with another owner start a new draft.
        baseline
            What Segment wrote.
        info
            What else is known of the labels.
        changes
            All planes that differ from the baseline.
        """
        said, (drafts, name) = dict(info), self._place(key)
        if self._owners.get(key) != owner:
            # Elsewhere, the draft is all that is known of the image later.
            carried = key in self._elsewhere and (said.get("seen") or said.get("draft_cells"))
            if not changes and not said.get("marks") and not carried:
                return
            drafts.begin(name, baseline, said)
            self._owners[key], self._saved[key], self._infos[key] = owner, {}, said
        before = self._saved[key]
        for index in before.keys() - changes.keys():
            drafts.save_plane(name, index, np.zeros(0, np.int64), np.zeros(0, np.int32))
        for index, (where, values) in changes.items():
            if index not in before or not _same(before[index], (where, values)):
                drafts.save_plane(name, index, where, values)
        self._saved[key] = dict(changes)
        if said != self._infos[key]:
            drafts.save_info(name, said)
            self._infos[key] = said

    def find(self, key: str) -> Draft | None:
        """Return the draft of an image; None if it is empty, dismissed or missing."""
        drafts, name = self._place(key)
        draft = drafts.load(name)
        if draft is None or draft.info.get("dismissed"):
            return None
        strokes = not np.array_equal(draft.baseline, draft.labels)
        facts = draft.info.get("marks") or draft.info.get("seen")
        return draft if strokes or facts or _has_drafts(draft) else None

    def dismiss(self, key: str) -> None:
        """Do not offer a draft again; it stays on the disk until the next one replaces it."""
        drafts, name = self._place(key)
        draft = drafts.load(name)
        if draft is not None:
            drafts.save_info(name, draft.info | {"dismissed": True})

    def adopt(self, key: str, owner: object) -> None:
        """Continue a restored draft: these labels are its owner now."""
        self._owners[key], self._saved[key], self._infos[key] = owner, {}, {}

    def _place(self, key: str) -> tuple[Drafts, str]:
        return self._elsewhere.get(key, (self._drafts, key))


def info_of(memo: Memo, image: str, model: str, channel: Channel) -> dict[str, object]:
    """Return the facts of labels in a form that JSON can hold.

    Parameters
    ----------
    memo
        Marks, states that came along, classes.
    image, model
        Name of the image layer, and NAME@VERSION of the model; empty if unknown.
    channel
        The channel that the model saw, "stain", or None for all.
    """
    return {
        "channel": channel if channel is None or channel == "stain" else int(channel),
        "image": image,
        "model": model,
        "marks": [mark.copy() for mark in memo.marks],
        "draft_cells": [draft.copy() for draft in memo.drafts],
        "classes": {str(cell): name for cell, name in sorted(memo.classes.items())},
        "seen": {"-".join(map(str, i)): _packed(s) for i, s in sorted(memo.carried.items())},
    }


def memo_from(draft: Draft) -> Memo:
    """Return what a draft holds besides labels: what `info_of` made of it."""
    info, shape = draft.info, draft.labels.shape
    return Memo(
        tuple(info.get("marks", ())),
        tuple(info.get("draft_cells", ())),
        {
            _index(text): _unpacked(states, shape[-2:])
            for text, states in info.get("seen", {}).items()
        },
        {int(cell): name for cell, name in info.get("classes", {}).items()},
    )


def labels_from(image: Image, draft: Draft) -> Labels:
    """Return a new Labels layer with all that a draft holds.

    Raises
    ------
    ValueError
        If it does not fit the image.
    """
    info, shape, memo = draft.info, draft.labels.shape, memo_from(draft)
    if tuple(shape) != stack_shape(image):
        raise ValueError(f"what was saved is {shape} and the image is not; segment it again")
    layer = labels_like(image, draft.labels, f"{image.name} cells", {})
    record = record_of(layer)
    record.channel = info.get("channel")
    record.source, record.image = image.unique_id, image.name
    record.model = info.get("model", "")
    record.baseline = draft.baseline
    record.marks, record.draft_cells = list(memo.marks), list(memo.drafts)
    record.classes, record.seen = dict(memo.classes), dict(memo.carried)
    layer.selected_label = int(draft.labels.max(initial=0)) + 1
    show_features(layer)
    return layer


def _has_drafts(draft: Draft) -> bool:
    """Whether cells that were added as drafts are in the labels still: some may be undone."""
    memo = memo_from(draft)
    planes = {tuple(cell["index"]) for cell in memo.drafts}
    return any(
        pending(memo.drafts, memo.marks, index, draft.labels[index]).any() for index in planes
    )


def _same(one: Changes, other: Changes) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def _packed(states: States) -> str:
    return base64.b64encode(zlib.compress(states.tobytes(), 1)).decode()


def _unpacked(text: str, shape: tuple[int, ...]) -> States:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape).copy()


def _index(text: str) -> Index:
    return tuple(int(number) for number in text.split("-")) if text else ()
