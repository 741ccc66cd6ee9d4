"""A stand-in for ComfyUI's package: what the adapter relies on, with its traps."""
