"""Tasks: texts, templates, label words, samples and metrics."""
