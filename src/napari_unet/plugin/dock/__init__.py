"""The widgets.

Entry: `widget.SegmentWidget`. One module for each row or panel; `widgets` holds small shared ones.
"""
