"""Where to paint next: the places that a result is least sure of, and likely slips of the brush."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Points
from napari.viewer import Viewer

from napari_unet.plugin.edits.seen import States
from napari_unet.plugin.viewer.alignment import over_points
from napari_unet.plugin.viewer.canvas import remove_soon
from napari_unet.plugin.viewer.garbage import leave_out_all, look_at
from napari_unet.plugin.viewer.going import go_to
from napari_unet.plugin.viewer.layers import Index, add_quietly
from napari_unet.plugin.viewer.record import helper_metadata

if TYPE_CHECKING:
    from napari_unet.core.cells.suggestions import Place

# A place, and the index of its plane.
Found = tuple[Index, "Place"]
NEXT, CHECK = "doubtful cells (U-Net)", "check these (U-Net)"
_COLOURS = {NEXT: "#ffd166", CHECK: "#ef476f"}
# Opacity of the rings around other places than the one that is looked at.
_FAINT = 0.3
_USUAL_PX = 24.0


@dataclass(frozen=True)
class Stop:
    """A place on the way.

    Attributes
    ----------
    number, of
        Which of how many.
    is_slip
        Whether it is a likely slip of the brush.
    """

    number: int
    of: int
    is_slip: bool

    def __str__(self) -> str:
        if self.is_slip:
            return (
                f"A slip of the brush? Place {self.number} of {self.of}: the model disagrees here"
            )
        return (
            f"Doubtful cell {self.number} of {self.of}, in the bright ring: correct it, add it if "
            "it is missing (A), or point at it and press C if it is right"
        )


class Places:
    """Leads the user from one place of an image to the next.

    Parameters
    ----------
    viewer
        Whose camera and sliders are moved.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._found: dict[str, dict[str, tuple[Found, ...]]] = {}
        self._visited: dict[str, set[tuple[str, int]]] = {}
        self._diameter_px: dict[str, float] = {}
        # The rings that are shown: of one image and kind at most.
        self._rings: tuple[str, str, Points] | None = None

    def offer(
        self, image: Image, kind: str, found: Sequence[Found], diameter_px: float = 0.0
    ) -> None:
        """Take note of the places of an image, in place of those of this kind before.

        Parameters
        ----------
        image
            Whose places.
        kind
            `NEXT` or `CHECK`.
        found
            Best first.
        diameter_px
            Of the image's cells; 0 if unknown.
        """
        who = str(image.unique_id)
        self._found.setdefault(who, {})[kind] = tuple(found)
        visited = self._visited.setdefault(who, set())
        self._visited[who] = {visit for visit in visited if visit[0] != kind}
        if diameter_px:
            self._diameter_px[who] = diameter_px
        if self._rings is not None and self._rings[:2] == (who, kind):
            self.close()

    def has(self, image: Image) -> bool:
        """Whether it was told of places of an image, be it of none."""
        return str(image.unique_id) in self._found

    def go_on(self, image: Image, states: Mapping[Index, States]) -> Stop | None:
        """Move to the next place; None if each was visited or seen.

        Parameters
        ----------
        image
            Whose places.
        states
            Of each plane of which something was seen: places of which that holds are left out,
            but slips, which lie there.
        """
        who = str(image.unique_id)
        for kind in (CHECK, NEXT):
            found = self._found.get(who, {}).get(kind, ())
            for number, (index, place) in enumerate(found):
                if (kind, number) in self._visited[who]:
                    continue
                if kind == NEXT and _is_seen(states, index, place):
                    continue
                self._visited[who].add((kind, number))
                _make_bright(self._show(image, kind, found), number)
                diameter_px = self._diameter_px.get(who, _USUAL_PX)
                go_to(self._viewer, image, index, place.y, place.x, diameter_px)
                return Stop(number + 1, len(found), kind == CHECK)
        self.close()
        self._visited[who] = {visit for visit in self._visited.get(who, ()) if visit[0] == CHECK}
        return None

    def forget(self, image: Image) -> None:
        """Let go of an image."""
        who = str(image.unique_id)
        if self._rings is not None and self._rings[0] == who:
            self.close()
        for known in (self._found, self._visited, self._diameter_px):
            known.pop(who, None)

    def close(self) -> None:
        """Take the rings away; safe to call twice."""
        rings, self._rings = self._rings, None
        if rings is not None:
            remove_soon(self._viewer, rings[2])

    def _show(self, image: Image, kind: str, found: Sequence[Found]) -> Points:
        who = str(image.unique_id)
        if self._rings is not None and self._rings[:2] == (who, kind):
            layer = self._rings[2]
            if layer in self._viewer.layers:
                return layer
        self.close()
        diameter = self._diameter_px.get(who, _USUAL_PX)
        points, lying = over_points(image, [(index, place.y, place.x) for index, place in found])
        leave_out_all()
        layer = Points(
            points,
            name=kind,
            metadata=helper_metadata(),
            # napari's own ring is so thick that it covers the cell.
            symbol="disc",
            size=2.2 * diameter,
            face_color="transparent",
            border_color=_COLOURS[kind],
            border_width=0.06,
            opacity=0.9,
            **lying,
        )
        look_at(layer)
        layer.editable = False
        self._rings = who, kind, layer
        add_quietly(self._viewer, layer)
        return layer


def _make_bright(rings: Points, number: int) -> None:
    """Show one ring at full strength, and the others faintly."""
    colours = np.array(rings.border_color)
    colours[:, 3] = _FAINT
    colours[number, 3] = 1.0
    rings.border_color = colours


def _is_seen(states: Mapping[Index, States], index: Index, place: Place) -> bool:
    here = states.get(tuple(index))
    return here is not None and bool(here[round(place.y), round(place.x)])
