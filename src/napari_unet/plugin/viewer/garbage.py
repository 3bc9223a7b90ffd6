"""Collections of garbage made short: napari 0.9 has one whenever a layer is removed.

Python looks at all objects then, which takes it 200 ms when napari and torch are loaded. Objects
that are there before this plugin adds its first layer are left out, so that removing the layers
that come later takes a few ms. A layer that was there is collected as ever: before it leaves, all
objects are looked at again. Small ones that leave while later layers are there wait until those
are gone, so that who goes from image to image does not wait for each.
"""

from __future__ import annotations

import gc
import sys
from weakref import WeakSet

from napari.layers import Layer
from napari.utils.events import Event

# Layers that are looked at when garbage is collected.
_looked_at: WeakSet[Layer] = WeakSet()
# Most objects come with modules that are imported, as torch's are for the first job.
_MANY_MODULES = 50
_n_modules = 0
# What layers that were left out and removed may hold together, in bytes. With its labels there are
# some copies of them, and what lies on the graphics card.
_MOST_BYTES, _COPIES = 2**28, 4
_n_bytes = 0


def leave_out_all() -> None:
    """Leave all objects that are there now out of collections; to be called before a layer is made.

    While there is a layer that was made since, nothing changes, for it has to be looked at, unless
    many modules were imported since.
    """
    global _n_modules
    if not _looked_at or len(sys.modules) > _n_modules + _MANY_MODULES:
        _looked_at.clear()
        _n_modules = len(sys.modules)
        gc.freeze()


def look_at(layer: Layer) -> None:
    """Say that a layer was made after `leave_out_all`."""
    _looked_at.add(layer)


def look_at_all(event: Event | None = None) -> None:
    """Look at all objects again, where a layer that was left out is removed.

    For small ones that is done with the last layer that was made since.
    """
    global _n_bytes
    if event is not None:
        layer = event.source[event.index]
        is_last = not _looked_at - {layer}
        if layer not in _looked_at:
            _n_bytes += 1 + _COPIES * getattr(layer.data, "nbytes", _MOST_BYTES)
        if _n_bytes <= _MOST_BYTES * (not is_last):
            return
    _n_bytes = 0
    _looked_at.clear()
    gc.unfreeze()
