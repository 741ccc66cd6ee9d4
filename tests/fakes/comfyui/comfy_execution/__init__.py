"""What runs the nodes."""
