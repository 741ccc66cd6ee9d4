"""A page in the browser that makes layers without a WebUI."""
