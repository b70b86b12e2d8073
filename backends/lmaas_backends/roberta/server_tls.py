"""The certificate that a server shows, and its key."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable
from pathlib import Path

__all__ = ["add_tls_arguments", "read_tls"]

_CERT, _KEY = "--tls-cert", "--tls-key"


def add_tls_arguments(group: argparse._ArgumentGroup) -> None:
    """Adds the options for HTTPS to a group of a parser."""
    group.add_argument(_CERT, type=Path, metavar="FILE", help="the certificate and those up to its CA, in PEM")
    group.add_argument(_KEY, type=Path, metavar="FILE", help="its private key in PEM, not encrypted")


def read_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What a server speaks TLS with, 1.2 at least.

    Args:
        cert: The certificate, and after it those up to its CA, in PEM.
        key: Its private key, in PEM and not encrypted.

    Returns:
        None where both are None: the server then speaks plain HTTP.

    Raises:
        ValueError: One comes without the other, a file is not what it is to be, or the two do not belong together.
        OSError: A file cannot be read.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, other = (_CERT, _KEY) if key is None else (_KEY, _CERT)
        raise ValueError(f"{given} needs {other} too: give both for HTTPS, or neither for plain HTTP")
    _check_pem(cert, b"CERTIFICATE-----", "certificate", _CERT)
    _check_pem(key, b"PRIVATE KEY-----", "private key", _KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password(key))
    except ssl.SSLError as error:
        raise ValueError(f"{_CERT} {cert} and {_KEY} {key} cannot be used: {_reason(error)}") from error
    return context


def _check_pem(path: Path, mark: bytes, what: str, option: str) -> None:
    """Tells the two files apart, which OpenSSL's own message does not."""
    if mark not in path.read_bytes():
        raise ValueError(f"{option} {path} holds no {what} in PEM form (-----BEGIN ...-----)")


def _no_password(key: Path) -> Callable[[], str]:
    """Called where the key is encrypted. Without it, OpenSSL would ask on the terminal and wait."""

    def refuse() -> str:
        raise ValueError(
            f"{_KEY} {key} is encrypted, and a server that starts by itself has nobody to ask for the password: "
            f"write it out by `openssl pkey -in {key} -out FILE` to a FILE that only its owner may read"
        )

    return refuse


def _reason(error: ssl.SSLError) -> str:
    if error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
        return "the key is not the one of the certificate"
    return error.reason or str(error)
