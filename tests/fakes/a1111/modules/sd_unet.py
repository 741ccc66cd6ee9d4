"""The UNet that an extension runs in the place of the checkpoint's."""

current_unet = None
