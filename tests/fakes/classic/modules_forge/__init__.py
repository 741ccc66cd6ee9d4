"""The UNet's patcher."""
