"""The ten methods without a WebUI: jobs, chains, the studio and the demo."""
