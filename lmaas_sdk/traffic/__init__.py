"""How calls go out: retries, and how many at once."""
