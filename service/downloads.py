"""Stored bytes as HTTP wants them: strong ETags, ranges, digests (RFC 9110, sections 8.8, 13 and 14)."""

import re
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from contract.failures import PreconditionFailed, RangeNotSatisfiable
from service.digests import repr_digest
from service.errors import refuse
from service.house import TENANT
from storage.blobs import Blobs
from storage.values import Blob

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
#: In place of a part that the file does not have.
NOWHERE = (0, 0)


def download(
    request: Request, blobs: Blobs, blob: Blob, *, filename: str, media_type: str, inline: bool = False
) -> Response:
    """The bytes, the part of them that was asked for, or the word that the client has them.

    Raises `ContentGone` and `PreconditionFailed`.
    """
    headers = _headers(blob, filename=filename, inline=inline)
    etag, size = headers["ETag"], blob.size_bytes
    if "if-match" in request.headers and not _has(request, "if-match", etag):
        raise PreconditionFailed
    if _has(request, "if-none-match", etag):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": headers["Cache-Control"]})
    part = part_of(request.headers.get("range", ""), size) if _still(request, etag) else None
    if part == NOWHERE:
        failure = RangeNotSatisfiable(f"The file has {size} bytes.")
        return refuse(request.scope, failure, headers={"Content-Range": f"bytes */{size}"})
    start, end = part or (0, size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = blobs.read(TENANT, blob.sha256, start=start, end=end)
    if request.method == "HEAD":
        pieces = iter(())
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


def _has(request: Request, field: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get(field, "").split(",")}
    return bool(tags & {etag, "*"})


def _still(request: Request, etag: str) -> bool:
    """Whether the client's part, if it has one, is of these bytes."""
    return request.headers.get("if-range", etag) == etag


def part_of(field: str, size: int) -> tuple[int, int] | None:
    """Start and end of the range that a `Range` field asks for; `NOWHERE` where the file has none of it.

    Null where all is to be sent: without a field, with one that cannot be read, and with several ranges.
    """
    found = _RANGE.fullmatch(field.replace(" ", ""))
    if found is None or not any(found.groups()):
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    elif last is not None and last < first:
        return None
    else:
        start, end = first, size if last is None else min(size, last + 1)
    return (start, end) if start < end else NOWHERE
