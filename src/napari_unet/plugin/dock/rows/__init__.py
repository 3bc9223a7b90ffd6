"""The rows of the dock: each a widget of its own that says or offers one thing.

Entry: `offer_row.OfferRow`, the row with a sentence and buttons that most others are. A row knows
the controller or calls what it was given; it must not know the dock that it stands in.
"""
