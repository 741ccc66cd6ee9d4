"""The WebUI front end: script hooks and panel."""
