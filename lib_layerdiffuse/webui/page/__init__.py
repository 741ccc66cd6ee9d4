"""What stands on the WebUI's page, in its settings and behind its API."""
