"""The transparent codec: transparency in and out of a latent."""
