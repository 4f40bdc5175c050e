"""Stored bytes as HTTP wants them: strong ETags, ranges, digests (RFC 9110, sections 8.8, 13 and 14)."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from contract.failures import PreconditionFailed, RangeNotSatisfiable
from service.digests import repr_digest
from service.house import TENANT
from storage.blobs import Blobs
from storage.values import Blob

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def download(
    request: Request, blobs: Blobs, blob: Blob, *, filename: str, media_type: str, inline: bool = False
) -> Response:
    """The bytes, the part of them that was asked for, or the word that the client has them.

    Raises `ContentGone`, `PreconditionFailed` and `RangeNotSatisfiable`.
    """
    headers = _headers(blob, filename=filename, inline=inline)
    if _named(request, "if-match") and not _has(request, "if-match", headers["ETag"]):
        raise PreconditionFailed
    if _has(request, "if-none-match", headers["ETag"]):
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    part = _part(request, blob.size_bytes, headers["ETag"])
    start, end = part or (0, blob.size_bytes)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size_bytes}"
    pieces = blobs.read(TENANT, blob.sha256, start=start, end=end)
    return StreamingResponse(pieces, status_code=206 if part else 200, headers=headers, media_type=media_type)


def _headers(blob: Blob, *, filename: str, inline: bool) -> dict[str, str]:
    way = "inline" if inline else "attachment"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename)
    return {
        "ETag": f'"{blob.sha256}"',
        "Repr-Digest": repr_digest(blob.sha256),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{way}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _named(request: Request, field: str) -> str:
    headers: Mapping[str, str] = request.headers
    return headers.get(field, "")


def _has(request: Request, field: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in _named(request, field).split(",")}
    return bool(tags & {etag, "*"})


def _part(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """Start and end of the one range that was asked for; null where all is to be sent, as with several ranges."""
    found = _RANGE.fullmatch(_named(request, "range").replace(" ", ""))
    condition = _named(request, "if-range")
    if found is None or not any(found.groups()) or (condition and condition != etag):
        return None
    first, last = found.groups()
    if max(len(first), len(last)) > 18:
        raise _outside(size)
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise _outside(size)
    return start, end


def _outside(size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(f"The file has {size} bytes.")
