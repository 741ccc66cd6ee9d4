"""What goes beyond one job: second steps, grids, plots, layer files, extras."""
