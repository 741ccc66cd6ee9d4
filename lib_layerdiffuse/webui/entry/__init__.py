"""The script's hooks: how the WebUI enters."""
