"""A stand-in for Forge Classic's sampling package: what the adapter relies on."""
