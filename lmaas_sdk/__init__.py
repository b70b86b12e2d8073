"""Tune language models that can only be called, within a budget that cannot be overrun."""

__all__: list[str] = []
