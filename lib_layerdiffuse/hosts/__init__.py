"""Adapters: each package applies the core to one host and is the only importer of it."""
