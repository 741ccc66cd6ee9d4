"""The interface for nodes."""
