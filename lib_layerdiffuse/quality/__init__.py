"""How well transparency is kept: what is measured of images, on which ones, and the report."""
