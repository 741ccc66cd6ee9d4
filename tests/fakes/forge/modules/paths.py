"""Folders; a test sets its own."""

models_path = "/nonexistent"
