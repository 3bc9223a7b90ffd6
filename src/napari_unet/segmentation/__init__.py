"""The segmentation of images in memory: from an image to labels.

Entry: `planes` (planes, one by one), `region` (a part of a plane), `stacks` and `three_views`
(whole stacks), `looking` (the size and the colours in which the model sees an image), `linking`
(one id for a cell on all its planes), `measurements` (a table of cells).
Must not know: corrections, training, servers, Qt, napari.
"""
