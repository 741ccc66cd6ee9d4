"""Layers in one file that drawing programs open: Photoshop, OpenRaster, or PNGs in a ZIP."""
