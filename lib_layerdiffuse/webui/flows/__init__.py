"""What goes beyond one job: second steps, plots, grids, Differential Diffusion, the Extras tab."""
