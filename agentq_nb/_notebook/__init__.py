"""The notebook floor: the extension, its magics, waiting inside cells, and how objects are shown."""
