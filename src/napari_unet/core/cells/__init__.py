"""Cells in label arrays: made from scores, linked, compared, measured in size.

Words: *labels* are int32 arrays, 0 is background, each other number is one cell.
Entry: `instances.label_instances` (scores to labels), `metrics` (how good labels are),
`edits.find_edits` (what a user changed).
Must not know: torch, files, settings.
"""
