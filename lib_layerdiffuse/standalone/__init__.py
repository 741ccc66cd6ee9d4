"""The ten methods without a WebUI: one generation, two steps in one go, files."""
