"""Adapters: each module applies the core to one host and is the only importer of it."""
