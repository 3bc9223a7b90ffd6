"""Models for other programs, and from them: ONNX and the bioimage.io format.

Words: an *archive* is a model in the bioimage.io format, a zip or a folder; a *foreign* model is
one that this program did not make. It segments, and cannot be fine-tuned.
Entry: `formats.export_model`, `archive_reader.model_file_of`.
Nothing of an archive is executed but the ONNX graph, by onnxruntime.
Must not know: the folder of the models, jobs, Qt, napari.
"""
