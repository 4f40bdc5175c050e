"""A job in one multipart call: the spec and the files it speaks of, streamed to the store as they come (RFC 7578)."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from contract.dataset import DatasetCreation
from contract.failures import BodyTooLarge, InvalidSpec, MalformedRequest, Unavailable
from contract.model import ModelCreation
from contract.spec import InlineJobSpec
from service.bodies import allow, announced_length
from service.house import TENANT, House
from service.recognition import Format
from service.specs import parse, read_json
from service.uploads import Intake
from storage.blobs import Blobs
from storage.garbage import PIN_SECONDS
from storage.values import Blob

#: Parts that bring files; the spec, which comes first, says of what format they are.
MODELS, DATASETS = ("model", "teacher"), ("train", "calibration", "evaluation")
#: Well within the time for which a file is pinned.
RENEW_SECONDS = PIN_SECONDS / 6
_MOST_SPEC = 1024**2
_MOST_HEADER = 16 * 1024


@dataclass(frozen=True)
class Parts:
    """What a multipart body brought."""

    raw: bytes
    spec: InlineJobSpec
    files: Mapping[str, Blob]

    @property
    def fingerprint(self) -> tuple[bytes, ...]:
        """What makes this body another than others: its parts, not its boundary."""
        return (self.raw, *(f"{name}={blob.sha256}".encode() for name, blob in sorted(self.files.items())))


@dataclass
class _Part:
    """The part that is being read."""

    name: str = ""
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)


async def read_parts(request: Request, house: House) -> Parts:
    """Store the files and return the spec; raises `MalformedRequest`, `BodyTooLarge` and what `Intake` raises."""
    allow(request, house.settings.max_upload_bytes + _MOST_SPEC)
    reader = _Reader(house.blobs, boundary=_boundary(request), expected=announced_length(request.headers) or 0)
    try:
        async for chunk in request.stream():
            await reader.feed(chunk)
        return await reader.finish()
    finally:
        await reader.close()


async def read_spec(request: Request, house: House) -> InlineJobSpec:
    """The spec alone; what else comes is passed over. Raises `MalformedRequest` and `BodyTooLarge`."""
    allow(request, house.settings.max_upload_bytes + _MOST_SPEC)
    reader = _Reader(None, boundary=_boundary(request), expected=0)
    async for chunk in request.stream():
        await reader.feed(chunk)
    return reader.spec()


def _boundary(request: Request) -> bytes:
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 256:
        raise MalformedRequest("The multipart body names no boundary.")
    return boundary


class _Reader:
    """Turns the parser's callbacks into parts and intakes; without blobs to put them in, files are passed over."""

    def __init__(self, blobs: Blobs | None, *, boundary: bytes, expected: int) -> None:
        self._blobs = blobs
        #: Bytes of the body that are still to come, as far as it has announced its length.
        self._left = expected
        self._renew_at = time.monotonic() + RENEW_SECONDS
        self._parser = MultipartParser(boundary, self._callbacks())
        self._part = _Part()
        self._told: list[tuple[str, bytes]] = []
        self._raw: bytearray | None = None
        self._spec: InlineJobSpec | None = None
        self._intake: Intake | None = None
        self._files: dict[str, Blob] = {}

    def _callbacks(self) -> Any:
        def data(kind: str) -> Any:
            return lambda chunk, start, end: self._told.append((kind, chunk[start:end]))

        def mark(kind: str) -> Any:
            return lambda: self._told.append((kind, b""))

        return {
            "on_part_begin": mark("begin"),
            "on_header_field": data("field"),
            "on_header_value": data("value"),
            "on_header_end": mark("header"),
            "on_headers_finished": mark("headers"),
            "on_part_data": data("data"),
            "on_part_end": mark("end"),
        }

    async def feed(self, chunk: bytes) -> None:
        """Take some bytes of the body."""
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise MalformedRequest("The multipart body cannot be read.") from error
        told, self._told = self._told, []
        for kind, content in told:
            await self._hear(kind, content)
        await self._renew()

    async def _renew(self) -> None:
        """Keep the files that are whole from being collected while others are on their way."""
        if self._blobs is None or not self._files or time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_SECONDS
        # A pin outlasts several of these: a database that is busy for once does not end a long upload.
        with suppress(Unavailable):
            await run_in_threadpool(self._blobs.renew, TENANT, list(self._files.values()))

    async def _hear(self, kind: str, content: bytes) -> None:
        part = self._part
        match kind:
            case "begin":
                self._part = _Part()
            case "field":
                part.header += content
            case "value":
                part.value += content
            case "header":
                part.headers[part.header.decode("latin-1").lower()] = part.value.decode("latin-1")
                part.header, part.value = bytearray(), bytearray()
            case "headers":
                await self._begin()
            case "data":
                await self._data(content)
            case "end":
                await self._end()
        if len(part.header) + len(part.value) > _MOST_HEADER or len(part.headers) > 16:
            raise MalformedRequest("A part's headers are too long.")

    async def _begin(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._part.name = name
        if name == "spec" and self._raw is None:
            self._raw = bytearray()
            return
        format = self._format_of(name)
        if self._blobs is not None:
            writer = await run_in_threadpool(self._blobs.writer, TENANT, expected_bytes=max(self._left, 0))
            self._intake = Intake(writer, format=format)

    def _format_of(self, name: str) -> Format:
        """The format in which the spec announces this part."""
        if name not in (*MODELS, *DATASETS) or name in self._files:
            known = ", ".join(("spec", *MODELS, *DATASETS))
            raise MalformedRequest(
                f"The part {name[:64]!r} is unknown or comes twice; the parts are {known}, each once."
            )
        if self._spec is None:
            raise MalformedRequest("The part `spec` must come first.")
        announced = announced_in(self._spec).get(name)
        if announced is None:
            raise InvalidSpec(f"The spec does not say what the part {name} is.", pointer=pointer_of(name))
        return announced.format

    async def _data(self, content: bytes) -> None:
        self._left -= len(content)
        if self._intake is not None:
            await self._intake.take(content)
        elif self._raw is not None and self._spec is None:
            self._raw += content
            if len(self._raw) > _MOST_SPEC:
                raise BodyTooLarge(f"The spec has more than {_MOST_SPEC} bytes.")

    async def _end(self) -> None:
        if self._spec is None:
            self._spec = parse(InlineJobSpec, read_json(bytes(self._raw or b"")))
        elif self._intake is not None:
            self._files[self._part.name] = await self._intake.finish()
            self._intake = None

    def spec(self) -> InlineJobSpec:
        """What the spec says; raises `MalformedRequest` where the body breaks off or has none."""
        try:
            self._parser.finalize()
        except MultipartParseError as error:
            raise MalformedRequest("The multipart body breaks off.") from error
        if self._spec is None:
            raise MalformedRequest("The multipart body has no part `spec`.")
        return self._spec

    async def finish(self) -> Parts:
        """Everything that came; raises `MalformedRequest` as `spec` does, and where a part is missing."""
        spec = self.spec()
        missing = next((name for name in announced_in(spec) if name not in self._files), None)
        if missing is not None:
            raise MalformedRequest(f"The spec announces a part {missing}, which did not come.")
        return Parts(bytes(self._raw or b""), spec, self._files)

    async def close(self) -> None:
        """Drop what was not finished."""
        if self._intake is not None:
            await self._intake.close()


def announced_in(spec: InlineJobSpec) -> dict[str, ModelCreation | DatasetCreation]:
    """What the spec says of the parts that bring files, by their names."""
    said = {"model": spec.model, "teacher": spec.teacher, **dict(spec.data)}
    return {name: what for name, what in said.items() if isinstance(what, ModelCreation | DatasetCreation)}


def pointer_of(part: str) -> str:
    """Where the spec speaks of this part."""
    return f"/data/{part}" if part in DATASETS else f"/{part}"
