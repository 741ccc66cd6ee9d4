"""Images as numpy arrays: read, fitted, composited, measured and kept."""
