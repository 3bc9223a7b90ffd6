"""Labels written as files that other programs open.

Words: a *cell* is an id in one plane, with its outline; a *track* is a cell through time.
Entry: `formats.FORMATS`, one writer for each format, and `labelled.Labelled`, what they write.
The table of measurements is written in `service.exports`, which knows how to measure.
Must not know: torch, models, jobs, Qt, napari; nor where the labels come from.
"""
