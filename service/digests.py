"""Digest fields of HTTP (RFC 9530): `Repr-Digest` and `Content-Digest`, of which SHA-256 is used."""

import re
from base64 import b64decode, b64encode

from starlette.datastructures import Headers

from contract.failures import MalformedRequest

_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([^:]*):", re.IGNORECASE)
_NAMED = re.compile(r"(?:^|,)\s*sha-256\s*(?:[=;,]|$)", re.IGNORECASE)
_BYTES = 32


def announced_sha256(headers: Headers) -> str | None:
    """The SHA-256 that the sender announces, in hexadecimal; raises `MalformedRequest` where it is none."""
    for name in ("repr-digest", "content-digest"):
        field = headers.get(name, "")
        found = _SHA256.search(field)
        if found:
            return _hex(name, found.group(1))
        if _NAMED.search(field):
            raise MalformedRequest(f"The {name} field names sha-256, but not as `sha-256=:BASE64:`.")
    return None


def _hex(name: str, encoded: str) -> str:
    try:
        digest = b64decode(encoded, validate=True)
    except ValueError as error:
        raise MalformedRequest(f"The {name} field holds no base64.") from error
    if len(digest) != _BYTES:
        raise MalformedRequest(f"The {name} field holds no SHA-256 digest.")
    return digest.hex()


def repr_digest(sha256: str) -> str:
    """The field's value for this digest."""
    return f"sha-256=:{b64encode(bytes.fromhex(sha256)).decode()}:"
