"""A masked language model served over HTTP, or used in this process."""
