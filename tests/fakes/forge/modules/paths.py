"""Folders; a test sets its own."""

models_path = "/nonexistent"
data_path = "/nonexistent"
script_path = "/nonexistent"
