"""The networks, in plain torch, with the released files' key names."""
