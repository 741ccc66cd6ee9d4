"""Weight files: found, fetched, verified, loaded and read."""
