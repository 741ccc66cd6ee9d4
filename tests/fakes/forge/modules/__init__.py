"""A stand-in for the WebUI's `modules`: its hooks in its order, with small networks."""
