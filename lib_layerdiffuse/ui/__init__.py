"""The panel that the WebUI's pages and the studio share."""
