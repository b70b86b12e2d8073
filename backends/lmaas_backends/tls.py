"""TLS as a client: whom it trusts, and what to do where it trusts nobody."""

from __future__ import annotations

import os
import ssl

import aiohttp

__all__ = ["untrusted", "verifying_context"]

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# OpenSSL's numbers of what is wrong with a certificate (x509_vfy.h).
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_HINTS = {
    _NOT_YET: "see that this machine's clock is right",
    _EXPIRED: "the server needs a new certificate, or this machine's clock is wrong",
    _OTHER_NAME: "give the URL with a name that the certificate is for",
    _OTHER_ADDRESS: "give the URL with a name or address that the certificate is for",
}


def verifying_context() -> ssl.SSLContext:
    """Trusts the CAs of this system, or those of SSL_CERT_FILE and SSL_CERT_DIR, as they are now. It reads files.

    aiohttp's own context is made when that is imported, and knows nothing of a variable that is set later.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def untrusted(error: aiohttp.ClientError) -> str:
    """Why no TLS with a server can be trusted and what to do; "" where the error is another, and may pass."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error
        if not isinstance(reason, ssl.SSLCertVerificationError):
            return "its certificate is not trusted"
        hint = _HINTS.get(reason.verify_code) or _how_to_trust()
        return f"its certificate is not trusted ({reason.verify_message}): {hint}"
    if isinstance(error, aiohttp.ClientConnectorSSLError) and _reason(error.os_error) == "WRONG_VERSION_NUMBER":
        return "it speaks no TLS: give its URL with http:// if the way there is one you trust"
    return ""


def _reason(error: OSError) -> str | None:
    return error.reason if isinstance(error, ssl.SSLError) else None


def _how_to_trust() -> str:
    named = [f"{name} is {os.environ[name]!r} now" for name in _VARIABLES if os.environ.get(name)]
    told = f" ({', '.join(named)})" if named else ""
    return f"if you trust the CA that signed it, name its file in SSL_CERT_FILE and start again{told}"
