"""A stand-in for the WebUI's model back end: the names and behaviour that the adapter relies on."""
