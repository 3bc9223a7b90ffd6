"""Keys that napari leaves free; bound in code, since a manifest's are ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from napari.layers import Labels
from napari.viewer import Viewer

Actions = Mapping[str, Callable[[], None]]


class Keys:
    """Keys on the Labels layer that is corrected, and keys anywhere in the viewer.

    Parameters
    ----------
    viewer
        Whose keys.
    on_labels
        What a key does while the layer of `attach` is active.
    anywhere
        What a key does always; one that somebody else has bound is left to them.
    """

    def __init__(self, viewer: Viewer, on_labels: Actions, anywhere: Actions) -> None:
        self._viewer, self._on_labels = viewer, on_labels
        self._layer: Labels | None = None
        self._bound: list[str] = []
        for key, action in anywhere.items():
            with suppress(ValueError):
                viewer.bind_key(key, _ignoring_who(action))
                self._bound.append(key)

    def attach(self, labels: Labels | None) -> None:
        """Bind the keys of labels to this layer, and no longer to the one before."""
        if labels == self._layer:
            return
        if self._layer is not None:
            for key in self._on_labels:
                self._layer.bind_key(key, None)
        self._layer = labels
        if labels is not None:
            for key, action in self._on_labels.items():
                labels.bind_key(key, _ignoring_who(action), overwrite=True)

    def close(self) -> None:
        """Give all keys back; safe to call twice."""
        self.attach(None)
        while self._bound:
            self._viewer.bind_key(self._bound.pop(), None)


def _ignoring_who(action: Callable[[], None]) -> Callable[[object], None]:
    return lambda who: action()
