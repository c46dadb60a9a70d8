"""The part of the Blob service's REST interface that the SDK's storage client uses."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ... import files
from ..blobs import Blobs, StorageError
from ..workspace import Workspace

BLOCK_BYTES = 100 << 20  # "Put Block", "Append Block": what one request may bring
LIST_BYTES = 8 << 20  # a list of 50,000 blocks
BLOCK = re.compile(r"<(?:Latest|Uncommitted|Committed)>\s*([^<]*?)\s*</")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
VERSION = "2021-08-06"


def routes(workspace: Workspace) -> list[BaseRoute]:
    """Signed addresses of files."""

    async def endpoint(request: Request) -> Response:
        writes = request.method == "PUT"
        name = request.path_params["name"]
        path = workspace.blobs.path(name, "w" if writes else "r", request.query_params)
        return await (put if writes else get)(workspace.blobs, path, request)

    return [Route("/blobs/{name}", storing(endpoint), methods=["GET", "HEAD", "PUT"])]


def storing(function: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A function as a route whose errors are written as storage writes them."""

    async def endpoint(request: Request) -> Response:
        try:
            return await function(request)
        except StorageError as error:
            found = error
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            found = StorageError(409, "PathConflict", "A file and a folder would have the same name.")
        except OSError as error:
            found = StorageError(400, "InvalidInput", f"The file cannot be kept: {error.strerror}.")
        text = f"<Error><Code>{found.code}</Code><Message>{escape(found.message)}</Message></Error>"
        return Response(
            "" if request.method == "HEAD" else f'<?xml version="1.0" encoding="utf-8"?>{text}',
            status_code=found.status,
            media_type="application/xml",
            headers={"x-ms-error-code": found.code, "x-ms-version": VERSION},
        )

    return endpoint


async def put(blobs: Blobs, path: Path, request: Request) -> Response:
    """Put Blob, Put Block, Put Block List and Append Block."""
    kind = request.query_params.get("comp")
    if kind == "block":
        digest = await _receive(request, blobs.stage(path, request.query_params.get("blockid", "")), BLOCK_BYTES)
        return _made(**{"Content-MD5": digest})
    if kind == "blocklist":
        _refuse_existing(path, request, None)
        blocks = BLOCK.findall((await _content(request, LIST_BYTES)).decode(errors="replace"))
        await run_in_threadpool(blobs.commit, path, blocks)
        return _made(**_state(path))
    if kind == "appendblock":
        content = await _content(request, BLOCK_BYTES)
        position = request.headers.get("x-ms-blob-condition-appendpos", "")
        offset, count = await run_in_threadpool(
            blobs.append, path, content, int(position) if position.isdecimal() else None
        )
        appended = {"x-ms-blob-append-offset": str(offset), "x-ms-blob-committed-block-count": str(count)}
        return _made(**_state(path), **appended)
    if kind is not None:
        raise StorageError(400, "UnsupportedQueryParameter", f"comp={kind} is not served.")
    if request.headers.get("x-ms-blob-type") == "AppendBlob":
        await run_in_threadpool(blobs.begin_appending, path)
        return _made(**_state(path))
    if request.headers.get("x-ms-blob-type") != "BlockBlob":
        raise StorageError(400, "InvalidHeaderValue", "x-ms-blob-type is BlockBlob or AppendBlob here.")
    digest = await _receive(request, path, None)
    return _made(**_state(path), **{"Content-MD5": digest})


async def get(blobs: Blobs, path: Path, request: Request) -> Response:
    """Get Blob and Get Blob Properties. Of a file that grows, what it has when it is asked for."""
    if not path.is_file():
        raise StorageError(404, "BlobNotFound", "The specified blob does not exist.")
    size = path.stat().st_size
    blocks = blobs.appended(path)
    text = path.suffix in (".txt", ".log")
    headers = {
        **_state(path),
        "Accept-Ranges": "bytes",
        "Content-Type": "text/plain; charset=utf-8" if text else "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        "x-ms-blob-type": "BlockBlob" if blocks is None else "AppendBlob",
        "x-ms-version": VERSION,
    }
    if blocks is not None:
        headers["x-ms-blob-committed-block-count"] = str(blocks)
    wanted = request.headers.get("x-ms-range") or request.headers.get("range")
    start, end, status = 0, size, 200
    if wanted and (match := RANGE.fullmatch(wanted)):
        start, end, status = int(match[1]), min(int(match[2] or size) + 1, size), 206
        if start >= size or start >= end:
            raise StorageError(416, "InvalidRange", f"The blob has {size} bytes.")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(path, start, end), status_code=status, headers=headers)


async def _pieces(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            piece = await run_in_threadpool(file.read, min(files.CHUNK, end - start))
            if not piece:  # it became shorter: the connection ends early, and the client asks again
                return
            start += len(piece)
            yield piece


async def _receive(request: Request, path: Path, limit: int | None) -> str:
    """Writes the body to that file, whole, and gives its MD5 in base64."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    with contextlib.suppress(_Unneeded), files.written_whole(path) as file:
        async for piece in request.stream():
            size += len(piece)
            if limit is not None and size > limit:
                raise StorageError(413, "RequestBodyTooLarge", f"A request may have {limit} bytes.")
            digest.update(piece)
            file.write(piece)
        sums = base64.b64encode(digest.digest()).decode()
        if request.headers.get("content-md5", sums) != sums:
            raise StorageError(400, "Md5Mismatch", "The MD5 in the header is not that of the body.")
        _refuse_existing(path, request, sums)
    return base64.b64encode(digest.digest()).decode()


async def _content(request: Request, limit: int) -> bytes:
    """The body, which has `limit` bytes at most."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > limit:
            raise StorageError(413, "RequestBodyTooLarge", f"A request may have {limit} bytes.")
    sums = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    if request.headers.get("content-md5", sums) != sums:
        raise StorageError(400, "Md5Mismatch", "The MD5 in the header is not that of the body.")
    return bytes(content)


class _Unneeded(Exception):  # noqa: N818 - no fault
    """The file is there already, with this very content."""


def _refuse_existing(path: Path, request: Request, sums: str | None) -> None:
    """If-None-Match: * - a blob that is there stays. One that has this content was sent twice: its answer was lost."""
    if request.headers.get("if-none-match") != "*" or not path.exists():
        return
    if sums is not None and path.is_file() and _sums(path) == sums:
        raise _Unneeded
    raise StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")


def _sums(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(files.CHUNK):
            digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _made(**headers: str) -> Response:
    headers |= {"x-ms-version": VERSION, "x-ms-request-server-encrypted": "true"}
    return Response(status_code=201, headers=headers)


def _state(path: Path) -> dict[str, str]:
    status = path.stat()
    return {
        "ETag": f'"0x{status.st_mtime_ns ^ status.st_size:X}"',
        "Last-Modified": email.utils.formatdate(status.st_mtime, usegmt=True),
    }
