"""The napari face: the only room that knows Qt."""
