"""One job: its state, checks, passes, and what becomes of its rows."""
