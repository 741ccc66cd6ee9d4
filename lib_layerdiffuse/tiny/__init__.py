"""A tiny family of diffusion models that draws in layers, and the pictures it learnt from."""
