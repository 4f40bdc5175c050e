"""Bodies of any size into the blob store, in bounded memory and off the event loop."""

import asyncio
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.bodies import allow, announced_length
from service.digests import announced_sha256
from service.recognition import BEGINNING, Format, check_beginning, check_whole
from storage.blobs import Blobs
from storage.intake import Writer
from storage.values import Blob

#: Chunks are gathered to pieces of this size before they are hashed and written.
PIECE = 1024**2


async def receive(request: Request, blobs: Blobs, *, tenant: str, format: Format, most: int) -> Blob:
    """Store the request's body; nothing is visible before its length, digest and format are right.

    Raises `StorageFull`, `DigestMismatch`, `MalformedRequest`, and what `bodies` and `recognition` raise.
    """
    allow(request, most)
    length, sha256 = announced_length(request.headers), announced_sha256(request.headers)
    writer = await run_in_threadpool(blobs.writer, tenant, expected_bytes=length or 0)
    intake = Intake(writer, format=format)
    try:
        async for chunk in request.stream():
            await intake.take(chunk)
        return await intake.finish(sha256=sha256, size_bytes=length)
    finally:
        await intake.close()


class Intake:
    """One file on its way in: the next piece arrives while the last one is hashed and written."""

    def __init__(self, writer: Writer, *, format: Format) -> None:
        self._writer, self._format = writer, format
        self._gathered = bytearray()
        self._checked = False
        self._writing: asyncio.Task[None] | None = None

    async def take(self, chunk: bytes) -> None:
        """Add bytes; raises `StorageFull` and what `check_beginning` raises."""
        self._gathered += chunk
        if not self._checked and len(self._gathered) >= BEGINNING:
            self._check_beginning()
        if len(self._gathered) >= PIECE:
            await self._write()

    async def finish(self, *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """See that the file is what it should be, and make it durable."""
        if not self._checked:
            self._check_beginning()
        await self._write()
        await self._written()
        look = partial(check_whole, format=self._format)
        return await run_in_threadpool(self._writer.commit, sha256=sha256, size_bytes=size_bytes, look=look)

    async def close(self) -> None:
        """Drop what was not committed."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await run_in_threadpool(self._writer.abort)

    def _check_beginning(self) -> None:
        check_beginning(bytes(self._gathered[:BEGINNING]), self._format)
        self._checked = True

    async def _write(self) -> None:
        await self._written()
        if self._gathered:
            piece, self._gathered = bytes(self._gathered), bytearray()
            self._writing = asyncio.ensure_future(run_in_threadpool(self._writer.write, piece))

    async def _written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing
