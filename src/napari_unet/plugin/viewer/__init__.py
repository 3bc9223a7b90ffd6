"""Between napari and arrays: layers, their alignment, the canvas, the two threads.

Entry: `layers`; `record` holds what this plugin knows of a layer. Must not know: what was painted,
results, jobs, the dock.
"""
