"""A stand-in for reForge's sampling package: what the adapter relies on."""
