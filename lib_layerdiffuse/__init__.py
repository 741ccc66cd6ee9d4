"""LayerDiffuse: natively transparent images and layers for Stable Diffusion."""

__version__ = "0.1.0"
