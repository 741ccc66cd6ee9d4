"""Reads files of LoRAs; what merges them is the patcher's."""
