"""Stand-ins for the parts of AUTOMATIC1111's WebUI that its adapter calls."""
