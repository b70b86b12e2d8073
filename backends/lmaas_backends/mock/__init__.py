"""A language model that is none: a synthetic landscape behind a provider's manners, without torch."""

from __future__ import annotations

from lmaas_backends.mock.backend import Latency, MockBackend, open_backend
from lmaas_backends.mock.book import Book
from lmaas_backends.mock.landscapes import Landscape, Question

__all__ = ["Book", "Landscape", "Latency", "MockBackend", "Question", "open_backend"]
