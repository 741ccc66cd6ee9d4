"""The folders that the command line gives; a test sets its own."""

default_output_dir = "/nonexistent/outputs"
