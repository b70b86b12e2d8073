"""Requests that are broken as HTTP, or odd as such, around a body that is good."""

from __future__ import annotations

import gzip
import zlib

from fuzz.bodies import GOOD
from fuzz.wire import KEY

__all__ = ["GOOD_BODY", "HARMLESS", "HEADERS", "HEADLESS", "TRUNCATED", "UNREADABLE"]

GOOD_BODY = GOOD["score"].body
_GZIPPED = gzip.compress(GOOD_BODY, mtime=0)
_HOST = b"Host: x\r\n"
_AUTHORIZED = _HOST + f"Authorization: Bearer {KEY}\r\n".encode()
_JSON = b"Content-Type: application/json\r\n"


def _request(line: bytes = b"POST /v1/score HTTP/1.1", *, headers: bytes = b"", body: bytes = GOOD_BODY) -> bytes:
    """A request with its own framing: no Content-Length stands beside `headers`."""
    return line + b"\r\n" + _AUTHORIZED + _JSON + headers + b"\r\n" + body


def _sized(headers: bytes, *, line: bytes = b"POST /v1/score HTTP/1.1", body: bytes = GOOD_BODY) -> bytes:
    return _request(line, headers=headers + b"Content-Length: %d\r\n" % len(body), body=body)


def _replacing(name: bytes, value: bytes) -> bytes:
    """The good request with another value for one of its headers, or without it where that is empty."""
    lines = [
        line
        for line in (_AUTHORIZED + _JSON).split(b"\r\n")
        if not line.lower().startswith(name.lower() + b":") and line
    ]
    lines += [name + b": " + value] if value else []
    head = b"\r\n".join([b"POST /v1/score HTTP/1.1", *lines, b"Content-Length: %d" % len(GOOD_BODY)])
    return head + b"\r\n\r\n" + GOOD_BODY


def _chunked(*pieces: bytes) -> bytes:
    return _request(headers=b"Transfer-Encoding: chunked\r\n", body=b"".join(pieces))


# What no HTTP server can read: 400, or a connection that is closed.
UNREADABLE = {
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "no HTTP at all": b"\r\n\r\n\r\nhello\r\n\r\n",
    "zero bytes": b"\0" * 1000 + b"\r\n\r\n",
    "high bytes": b"\xff" * 1000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/9.9": _sized(b"", line=b"POST /v1/score HTTP/9.9"),
    "HTTP/1": _sized(b"", line=b"POST /v1/score HTTP/1"),
    "a version in lower case": _sized(b"", line=b"POST /v1/score http/1.1"),
    "no method": _sized(b"", line=b" /v1/score HTTP/1.1"),
    "a method with a blank": _sized(b"", line=b"PO ST /v1/score HTTP/1.1"),
    "a method in brackets": _sized(b"", line=b"<POST> /v1/score HTTP/1.1"),
    "a method of 9000 letters": _sized(b"", line=b"P" * 9000 + b" /v1/score HTTP/1.1"),
    "a path of 9000 letters": _sized(b"", line=b"POST /" + b"x" * 9000 + b" HTTP/1.1"),
    "a path with a zero byte": _sized(b"", line=b"POST /v1/\0score HTTP/1.1"),
    "a header of 9000 letters": _sized(b"X: " + b"x" * 9000 + b"\r\n"),
    "a header name of 9000 letters": _sized(b"X" * 9000 + b": x\r\n"),
    "a thousand headers": _sized(b"".join(b"X%d: x\r\n" % number for number in range(1000))),
    "a mebibyte of headers": _sized(b"".join(b"X%d: %s\r\n" % (number, b"x" * 8000) for number in range(130))),
    "no colon": _sized(b"Oops\r\n"),
    "no header name": _sized(b": x\r\n"),
    "a blank in a header name": _sized(b"X Y: x\r\n"),
    "a blank before the colon": _sized(b"X : x\r\n"),
    "a high byte in a header name": _sized(b"X\xff: x\r\n"),
    "a zero byte in a header": _sized(b"X: a\0b\r\n"),
    "a bare carriage return in a header": _sized(b"X: a\rb\r\n"),
    "a folded header": _sized(b"X: a\r\n b\r\n"),
    "a header that begins with a blank": _sized(b" X: a\r\n"),
    "two lengths": _sized(b"Content-Length: 3\r\n"),
    "a negative length": _request(headers=b"Content-Length: -1\r\n"),
    "a signed length": _request(headers=b"Content-Length: +1\r\n"),
    "a length in words": _request(headers=b"Content-Length: many\r\n"),
    "a length in hexadecimal": _request(headers=b"Content-Length: 0x10\r\n"),
    "a length with a blank": _request(headers=b"Content-Length: 1 1\r\n"),
    "a length of 5000 digits": _request(headers=b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    "a length of 2^64": _request(headers=b"Content-Length: 18446744073709551616\r\n"),
    "an empty length": _request(headers=b"Content-Length: \r\n"),
    "a length and chunks": _sized(b"Transfer-Encoding: chunked\r\n"),
    "chunked twice": _request(headers=b"Transfer-Encoding: chunked, chunked\r\n"),
    "chunked and then gzip": _request(headers=b"Transfer-Encoding: chunked, gzip\r\n", body=b"0\r\n\r\n"),
    "an unknown transfer encoding": _request(headers=b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"),
    "a chunk without a size": _chunked(b"hello\r\n0\r\n\r\n"),
    "a chunk of a negative size": _chunked(b"-1\r\n0\r\n\r\n"),
    "a chunk of a huge size": _chunked(b"f" * 40 + b"\r\n0\r\n\r\n"),
    "a chunk longer than it says": _chunked(b"2\r\nhello\r\n0\r\n\r\n"),
    "a chunk with a long extension": _chunked(b"1;" + b"x" * 20_000 + b"\r\n{\r\n0\r\n\r\n"),
    "a chunk with a bare line feed": _chunked(b"1\n{\n0\n\n"),
    "a trailer that is none": _chunked(b"0\r\nOops\r\n\r\n"),
    "an authority of another form": _sized(b"", line=b"POST http://[::1 HTTP/1.1"),
    "a port out of range": _sized(b"", line=b"POST http://x:99999999/v1/score HTTP/1.1"),
}

# What is HTTP, and is refused in the API's own way: with a 4xx, always.
HEADERS = {
    "no content type": _replacing(b"Content-Type", b""),
    "an empty content type": _replacing(b"Content-Type", b" "),
    "a content type of bytes": _replacing(b"Content-Type", b"\xff\xfe\x80"),
    "a content type of no form": _replacing(b"Content-Type", b"application"),
    "a content type of slashes": _replacing(b"Content-Type", b"///;;;==,,"),
    "a long content type": _replacing(b"Content-Type", b"application/json" + b"x" * 7000),
    "text": _replacing(b"Content-Type", b"text/plain"),
    "a form": _replacing(b"Content-Type", b"application/x-www-form-urlencoded"),
    "parts": _replacing(b"Content-Type", b"multipart/form-data; boundary=x"),
    "parts without a boundary": _replacing(b"Content-Type", b"multipart/form-data"),
    "the other form": _replacing(b"Content-Type", b"application/vnd.lmaas.tensors"),
    "gzip": _sized(b"Content-Encoding: gzip\r\n", body=_GZIPPED),
    "gzip that is none": _sized(b"Content-Encoding: gzip\r\n"),
    "a bomb": _sized(b"Content-Encoding: gzip\r\n", body=gzip.compress(bytes(10 << 20), mtime=0)),
    "deflate": _sized(b"Content-Encoding: deflate\r\n", body=zlib.compress(GOOD_BODY)),
    "an unknown encoding": _sized(b"Content-Encoding: \xff\x80\r\n"),
    "two encodings": _sized(b"Content-Encoding: identity, gzip\r\n"),
    "gzip on the way": _request(
        headers=b"Transfer-Encoding: gzip, chunked\r\n",
        body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(_GZIPPED), _GZIPPED),
    ),
    "gzip inside": _sized(b"", body=_GZIPPED),
    "another expectation": _sized(b"Expect: 200-ok\r\n"),
    "an expectation of bytes": _sized(b"Expect: \xff\r\n"),
    "another expectation at no path": _sized(b"Expect: 200-ok\r\n", line=b"POST /v2/score HTTP/1.1"),
    "another expectation of no method": _sized(b"Expect: 200-ok\r\n", line=b"PUT /v1/score HTTP/1.1"),
    "no authorization": _replacing(b"Authorization", b""),
    "an authorization of bytes": _replacing(b"Authorization", b"Bearer \xff\xfe"),
    "an authorization of no scheme": _replacing(b"Authorization", b"Bearer"),
    "a long authorization": _replacing(b"Authorization", b"Bearer " + b"x" * 8000),
    "an empty idempotency key": _sized(b"Idempotency-Key: \r\n"),
    "a long idempotency key": _sized(b"Idempotency-Key: " + b"k" * 256 + b"\r\n"),
    "no such path": _sized(b"", line=b"POST /v1/scores HTTP/1.1"),
    "a path in bytes": _sized(b"", line=b"POST /v1/\xff\xfe HTTP/1.1"),
    "a path of broken escapes": _sized(b"", line=b"POST /v1/%zz%%%ff%00 HTTP/1.1"),
    "a path that climbs": _sized(b"", line=b"POST /v1/../../etc/passwd HTTP/1.1"),
    "a path that climbs back": _sized(b"", line=b"POST /v1/x/../score HTTP/1.1"),
    "a path of slashes": _sized(b"", line=b"POST ///// HTTP/1.1"),
    "no path": _sized(b"", line=b"POST * HTTP/1.1"),
    "another host": _sized(b"", line=b"POST http://example.com/v1/nothing HTTP/1.1"),
    "a tokenizer that climbs": _sized(b"", line=b"GET /v1/models/..%2f..%2fetc/tokenizer HTTP/1.1"),
    "another method": _sized(b"", line=b"DELETE /v1/score HTTP/1.1"),
    "an unknown method": _sized(b"", line=b"BREW /v1/score HTTP/1.1"),
    "a tunnel": _sized(b"", line=b"CONNECT example.com:443 HTTP/1.1"),
    "a trace": _sized(b"", line=b"TRACE /v1/score HTTP/1.1"),
    "no body": _request(body=b""),
    "a short length": _request(headers=b"Content-Length: 100\r\nConnection: close\r\n"),
    "too large a body": _request(headers=b"Content-Length: 1099511627776\r\nConnection: close\r\n", body=b"{"),
    "an empty chunked body": _chunked(b"0\r\n\r\n"),
    "a chunked half": _chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (100, GOOD_BODY[:100])),
    "a trailer": _chunked(b"1\r\n{\r\n0\r\nX: y\r\n\r\n"),
}

# What looks hostile and is the good request all the same: the good answer.
HARMLESS = {
    "a web socket": _sized(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    ),
    "an expected body": _sized(b"Expect: 100-Continue\r\n"),
    "an expected body in HTTP/1.0": _sized(b"Expect: 100-continue\r\n", line=b"POST /v1/score HTTP/1.0"),
    "one chunk a byte": _chunked(*(b"1\r\n%c\r\n" % byte for byte in GOOD_BODY), b"0\r\n\r\n"),
    "a host of its own": _sized(b"", line=b"POST http://example.com/v1/score HTTP/1.1"),
    "an escaped path": _sized(b"", line=b"POST /v1/%73core?x=%ff#y HTTP/1.1"),
    "blank lines before": b"\r\n\r\n" + _sized(b""),
    "an Accept of bytes": _sized(b"Accept: \xff;q=\xfe, */*;q=1e999\r\n"),
    "an idempotency key of bytes": _sized(b"Idempotency-Key: \xff\xfe\r\n"),
    "a parameter of bytes": _replacing(b"Content-Type", b"application/json; charset=\xff"),
}

# What ends before it is whole, with the connection: nobody is there to be answered.
TRUNCATED = {
    "a body": _sized(b"")[:-1],
    "half a body": _sized(b"")[: -len(GOOD_BODY) // 2],
    "no body": _sized(b"")[: -len(GOOD_BODY)],
    "a head": _sized(b"", body=b"")[:-2],
    "a request line": b"POST /v1/sc",
    "a line of HTTP/0.9": b"GET /v1/models\n",
    "a chunk": _chunked(b"ff\r\n{"),
    "a size of a chunk": _chunked(b"f"),
    "the last chunk": _chunked(b"1\r\n{\r\n"),
    "an expected body": _sized(b"Expect: 100-continue\r\n", body=GOOD_BODY)[: -len(GOOD_BODY)],
}

HEADLESS = ("a head", "a request line", "a line of HTTP/0.9")  # of these, those without a whole head
