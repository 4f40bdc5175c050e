"""Bodies of any size into the blob store, in bounded memory and off the event loop."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from contract.failures import BodyTooLarge, MalformedRequest, RequestTimeout
from service.digests import announced_sha256
from service.recognition import BEGINNING, Format, check_beginning, check_whole
from storage.blobs import Blobs
from storage.intake import Writer
from storage.values import Blob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Chunks are gathered to pieces of this size before they are hashed and written.
PIECE = 1024**2
#: A body that brings nothing for so long is given up, in seconds.
IDLE_SECONDS = 60.0


async def receive(request: Request, blobs: Blobs, *, tenant: str, format: Format, most: int) -> Blob:
    """Store the request's body; nothing is visible before its length, digest and format are right.

    Raises `BodyTooLarge`, `StorageFull`, `DigestMismatch`, `RequestTimeout`, `MalformedRequest` and what
    `recognition` raises.
    """
    length = announced_length(request)
    if length is not None and length > most:
        raise BodyTooLarge(f"The body has {length} bytes; at most {most} are taken.")
    sha256 = announced_sha256(request.headers)
    writer = await run_in_threadpool(blobs.writer, tenant, expected_bytes=length or 0)
    intake = Intake(writer, format=format, most=most)
    try:
        async for chunk in unhurried(request.stream()):
            await intake.take(chunk)
        return await intake.finish(blobs, tenant, sha256=sha256, size_bytes=length)
    finally:
        await intake.close()


def announced_length(request: Request) -> int | None:
    """The `Content-Length`; raises `MalformedRequest` where it is no length."""
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise MalformedRequest("Content-Length is no length.")
    return int(value)


async def unhurried(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream's chunks; raises `RequestTimeout` where one keeps us waiting too long."""
    iterator = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RequestTimeout(f"Nothing came for {IDLE_SECONDS:.0f} s.") from error
        yield chunk


class Intake:
    """One file on its way in: the next piece arrives while the last one is hashed and written."""

    def __init__(self, writer: Writer, *, format: Format, most: int) -> None:
        self._writer, self._format, self._most = writer, format, most
        self._gathered = bytearray()
        self._size = 0
        self._checked = False
        self._writing: asyncio.Task[None] | None = None

    async def take(self, chunk: bytes) -> None:
        """Add bytes; raises `BodyTooLarge`, `StorageFull` and what `check_beginning` raises."""
        self._size += len(chunk)
        if self._size > self._most:
            raise BodyTooLarge(f"The body has more than {self._most} bytes.")
        self._gathered += chunk
        if not self._checked and len(self._gathered) >= BEGINNING:
            self._check_beginning()
        if len(self._gathered) >= PIECE:
            await self._write()

    async def finish(self, blobs: Blobs, tenant: str, *, sha256: str | None, size_bytes: int | None) -> Blob:
        """Make the file durable and see that it is what it should be."""
        if not self._checked:
            self._check_beginning()
        await self._write()
        await self._written()
        blob = await run_in_threadpool(self._writer.commit, sha256=sha256, size_bytes=size_bytes)
        await run_in_threadpool(_check_stored, blobs, tenant, blob, self._format)
        return blob

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


def _check_stored(blobs: Blobs, tenant: str, blob: Blob, format: Format) -> None:
    with io.BufferedReader(StoredFile(blobs, tenant, blob)) as file:
        check_whole(file, format)


class StoredFile(io.RawIOBase):
    """A stored blob as a file that can be read and sought, wherever it is stored."""

    def __init__(self, blobs: Blobs, tenant: str, blob: Blob) -> None:
        self._blobs, self._tenant, self._blob = blobs, tenant, blob
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there; returns where that is."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.size_bytes}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer as far as there are bytes; returns how many."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._blob.size_bytes)
        filled = 0
        if self._at < end:
            for piece in self._blobs.read(self._tenant, self._blob.sha256, start=self._at, end=end):
                view[filled : filled + len(piece)] = piece
                filled += len(piece)
        self._at += filled
        return filled
