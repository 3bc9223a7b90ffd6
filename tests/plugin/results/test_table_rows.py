"""A row of the table that Measure opens leads to its cell, and the brush keeps its number."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget, QTableView

from napari_unet.plugin.viewer.canvas import camera_of


def table_of(dock) -> QTableView:
    docks = dock.window().findChildren(QDockWidget)
    return next(view for each in docks for view in each.findChildren(QTableView))


def ids_in(view: QTableView) -> list[int]:
    """Of the cells, from the top of the table down."""
    model = view.model()
    names = [model.headerData(n, Qt.Orientation.Horizontal) for n in range(model.columnCount())]
    return [model.index(row, names.index("index")).data() for row in range(model.rowCount())]


def chosen(view: QTableView) -> set[int]:
    return {ids_in(view)[index.row()] for index in view.selectionModel().selectedIndexes()}


def click(view: QTableView, cell: int, qtbot) -> None:
    """Click on the row of a cell."""
    index = view.model().index(ids_in(view).index(cell), 1)
    view.scrollTo(index)
    place = view.visualRect(index).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.wait(20)


def middle(dock) -> tuple[float, ...]:
    """The place of the image in the middle of the canvas."""
    image = dock.image.value
    return tuple(image.world_to_data(camera_of(dock.viewer).center[-image.ndim :])[-2:])


@pytest.fixture
def measured(docked_by_napari, settle, image):
    """The dock, and the table of two cells of three; pixels are 0.5 um."""
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells", scale=(0.5, 0.5), translate=(3, 4))
    dock.segment_button.click()
    settle(dock)
    layer = dock.labels.value
    layer.data_setitem(np.nonzero(layer.data == layer.data[20, 20]), 0)
    settle(dock)
    dock.measuring.measure.click()
    settle(dock)
    return dock, layer, table_of(dock)


def test_a_row_leads_to_its_cell_and_the_brush_keeps_its_number(measured, qtbot):
    dock, layer, view = measured
    layer.selected_label = 50
    qtbot.wait(20)
    camera_of(dock.viewer).zoom = 1
    for at in ((70, 30), (30, 70)):
        cell = int(layer.data[at])
        click(view, cell, qtbot)
        assert middle(dock) == pytest.approx(at, abs=1)
        assert chosen(view) == {cell}
        assert layer.selected_label == 50
    assert camera_of(dock.viewer).zoom > 1, "cells can be told apart"
    view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    first, second = ids_in(view)
    assert first > second
    click(view, first, qtbot)
    QTest.keyClick(view, Qt.Key.Key_Down)
    qtbot.wait(20)
    assert layer.data[tuple(np.round(middle(dock)).astype(int))] == second


def test_a_number_that_is_chosen_on_the_image_marks_its_row(measured, qtbot):
    _, layer, view = measured
    cell = int(layer.data[70, 30])
    layer.selected_label = cell
    qtbot.wait(20)
    assert chosen(view) == {cell}
    layer.selected_label = 50
    qtbot.wait(20)
    assert chosen(view) == set()


def test_a_row_leads_to_the_plane_of_its_cell(docked_by_napari, settle, discs, qtbot):
    dock = docked_by_napari
    stack = np.stack([discs((20, 20)), discs((60, 60)), discs((30, 70))])
    dock.viewer.add_image(stack, name="stack", scale=(2, 0.5, 0.5))
    dock.advanced.scope.value = "whole z-stack"
    dock.segment_button.click()
    settle(dock)
    dock.measuring.measure.click()
    settle(dock)
    view = table_of(dock)
    for at in ((2, 30, 70), (0, 20, 20)):
        click(view, int(dock.labels.value.data[at]), qtbot)
        assert dock.viewer.dims.current_step[0] == at[0]
        assert middle(dock) == pytest.approx(at[1:], abs=1)
    # The table of a layer that was not measured leads nowhere.
    dock.viewer.add_labels(np.ones_like(stack, int), name="other", features={"index": [1]})
    click(view, 1, qtbot)
    assert dock.viewer.dims.current_step[0] == 0
