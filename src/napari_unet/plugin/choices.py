"""What the boxes of the dock offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.layers.base import Layer
from napari.viewer import Viewer

from napari_unet.plugin.layers import is_helper
from napari_unet.service.model_store import ModelStore


def layers_of(viewer: Viewer, kind: type[Layer]) -> Callable[[Any], list[tuple[str, Any]]]:
    """Layers of a kind, the uppermost first, without those that only show something."""
    return lambda widget: [
        (layer.name, layer)
        for layer in viewer.layers[::-1]
        if isinstance(layer, kind) and not is_helper(layer)
    ]


def models_of(store: ModelStore) -> Callable[[Any], list[str]]:
    """Each model's name, then its versions, the newest first."""
    return lambda widget: [
        choice
        for name in store.names()
        for choice in (name, *(v.reference for v in store.versions(name)[::-1]))
    ]
