"""Patchers."""
