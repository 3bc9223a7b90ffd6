"""The folder of images in the dock: which image is open, a list of all, what is done to the rest.

Entry: `panel.QueuePanel`. `image_list` is the list, `thumbnails` its pictures.
"""
