"""Colours of the dock, taken from the theme of napari."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtWidgets import QPushButton

# A green and a red that are seen on dark and on light themes; the themes of napari have none.
GOOD = "#2e9e5b"
BAD = "#d64545"


def stylesheet(viewer: Any) -> str:
    """Style of the accent button and of the cards, for the theme of a viewer."""
    theme = get_theme(viewer.theme)
    accent, text, warning = (_rgb(c) for c in (theme.current, theme.text, theme.warning))
    base = _rgb(theme.background)
    faint, edge = _rgb(theme.foreground), _rgb(theme.secondary)
    return f"""
        QPushButton[accent="true"] {{ background-color: {accent}; color: {text}; }}
        QPushButton[accent="true"]:hover {{ border: 1px solid {text}; }}
        QPushButton:checked {{ background-color: {base}; border: 2px solid {text};
            font-weight: bold; }}
        QFrame[line] {{ background-color: {edge}; }}
        QToolButton[menu] {{ background-color: {_rgb(theme.primary)}; min-width: 26px;
            min-height: 22px; border-radius: 2px; }}
        QToolButton[menu]::menu-indicator {{ image: none; }}
        QFrame[card] {{ background-color: {faint}; border-left: 4px solid {edge}; }}
        QFrame[card="good"] {{ border-left-color: {GOOD}; }}
        QFrame[card="doubtful"] {{ border-left-color: {warning}; }}
        QFrame[card] QLabel {{ background-color: transparent; border: none; }}
    """


def set_accent(button: QPushButton, accent: bool) -> None:
    """Show a button as the next thing to do, or as any other."""
    if button.property("accent") != accent:
        button.setProperty("accent", accent)
        restyle(button)


def restyle(widget: Any) -> None:
    """Have a changed property of a widget seen by its style."""
    style = widget.style()
    style.unpolish(widget)
    style.polish(widget)


def _rgb(colour: Any) -> str:
    red, green, blue = colour.as_rgb_tuple()[:3]
    return f"rgb({red}, {green}, {blue})"
