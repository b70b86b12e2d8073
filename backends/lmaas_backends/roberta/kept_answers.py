"""The answers that are kept under idempotency keys: for 24 hours, within bounds. Run inside a transaction."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["Answer", "KeptAnswers"]

_KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 answer.

    Args:
        body, media_type: What is sent, and what is kept.
        replayed: It was computed and billed for an earlier request.
        quota_headers: What is left of each quota.
    """

    body: bytes
    media_type: str
    replayed: bool = False
    quota_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """The answers in a state file.

    Args:
        most_answers, most_bytes: The oldest answers are forgotten beyond these.
    """

    most_answers: int = 100_000
    most_bytes: int = 256 << 20

    def find(self, connection: sqlite3.Connection, key: str, fingerprint: str, now: float) -> Answer | None:
        """The answer kept under a key.

        Args:
            connection: In a transaction.
            key: The idempotency key with its scope.
            fingerprint: Of the whole request: equal fingerprints, equal requests.
            now: Seconds since 1970.

        Raises:
            RefusalError: key_reused: the key came with another request before.
        """
        row = connection.execute(
            "SELECT fingerprint, body, media_type FROM answers WHERE key = ? AND expires_at > ?", (_hashed(key), now)
        ).fetchone()
        if row is None:
            return None
        if row[0] != fingerprint:
            raise RefusalError("key_reused", "this Idempotency-Key came with another request before")
        return Answer(row[1], row[2], replayed=True)

    def keep(self, connection: sqlite3.Connection, key: str, fingerprint: str, *, answer: Answer, now: float) -> None:
        """Keeps an answer for a day, and forgets what is beyond the bounds; arguments are those of `find`."""
        connection.execute("DELETE FROM answers WHERE key = ? OR expires_at <= ?", (_hashed(key), now))
        connection.execute(
            "INSERT INTO answers (key, fingerprint, media_type, expires_at, size, body) VALUES (?, ?, ?, ?, ?, ?)",
            (_hashed(key), fingerprint, answer.media_type, now + _KEPT_S, len(answer.body), answer.body),
        )
        while not self._within_bounds(connection):
            connection.execute("DELETE FROM answers WHERE seq = (SELECT min(seq) FROM answers)")

    def _within_bounds(self, connection: sqlite3.Connection) -> bool:
        answers, size = connection.execute("SELECT answers, bytes FROM kept").fetchone()
        return bool(answers <= self.most_answers and size <= self.most_bytes)


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
