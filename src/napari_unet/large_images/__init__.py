"""Images larger than memory: from zarr to OME-Zarr, in pieces that can be resumed.

Entry: `job.segment_volume`. Words: a *task* is one piece of the work, done by any process that sees
the files; an *executor* does tasks, in this thread or on a Dask cluster.
Must not know: corrections, training, servers, Qt, napari.
"""
