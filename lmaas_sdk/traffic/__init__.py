"""How calls go out: retries."""
