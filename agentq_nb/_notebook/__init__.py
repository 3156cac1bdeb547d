"""The IPython extension: magics, waiting inside cells, deploying classes, and how objects are displayed."""
