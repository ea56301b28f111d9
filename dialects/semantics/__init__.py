"""What each operation means, in numpy: one file a dialect. Every value is an array of the dtype of `elements.py`.

Inside the regions of `ternary.elementwise` and `ternary.project` the same operations run on whole arrays at once.
"""
