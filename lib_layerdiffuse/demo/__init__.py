"""What the tiny family draws: the demo and its figures."""
