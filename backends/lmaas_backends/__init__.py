"""The backends that come with lmaas-sdk; found by entry points, so nothing here is imported by name."""
