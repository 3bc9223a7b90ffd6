"""An image in memory to labels.

Entry: `planes` (planes through a model), `region` (a part of a plane), `stacks` and `three_views`
(stacks as wholes), `looking` (at which size and in which colours an image is seen), `linking`
(one number for a cell through planes), `measurements` (a table of cells).
Must not know: corrections, training, servers, Qt, napari.
"""
