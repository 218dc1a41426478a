"""Training, export and judging of the bundled detector.

`train` and `export` need the optional extra `train` (torch, ultralytics: AGPL-3.0, and so are the weights that
come out of it); `evaluate` needs nothing but the product itself.
"""
