"""The script's hooks: how the WebUI enters, and how a job ends early."""
