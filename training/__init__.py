"""Trains the tiny family; the same programs train codecs and layer files at full size."""
