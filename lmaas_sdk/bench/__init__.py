"""Measuring methods against each other."""
