"""A folder of images in the viewer: one image open at a time, saved as it is corrected.

Entry: `queue.Queue`. `layers` makes the layers of an image, `own_labels` takes labels that
a user made or brought, `teaching` is what all images of the folder teach together, `rest` does the
work on all images. The widgets are in `plugin.dock.queue`.
"""
