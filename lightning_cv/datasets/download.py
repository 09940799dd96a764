"""One file over HTTP: goes on where an earlier attempt stopped, and is checked before anything is done with it."""

import errno
import hashlib
import os
import queue
import threading
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.meter import Meter, megabytes

ANSWER_SECONDS = 5.0
"""A server that has not begun to answer by then counts as out of reach; all mirrors together have a second more.

A machine without a network shall be told within ten seconds: the start of the command takes less than one, more on a
busy machine.
"""

ATTEMPTS = 20
"""How often a transfer that breaks off, but moves on each time, is taken up again."""

_CHUNK = 1 << 20


def download(urls: Sequence[str], path: Path, checksum: str, about: int) -> None:
    """Writes a file and verifies it; what has arrived when a transfer breaks off stays in `path`.part for the next one.

    Args:
        urls: mirrors, tried in turn.
        path: where the file appears once it is whole and right.
        checksum: "md5:..." or "sha256:...", in hexadecimal.
        about: size in bytes, for the progress bar of servers that do not say it.
    """
    if path.is_file():
        return  # verified by an earlier call
    part = path.with_name(f"{path.name}.part")
    seconds = min(ANSWER_SECONDS, (ANSWER_SECONDS + 1) / len(urls))
    refusals: list[str] = []
    for url in urls:
        try:
            _transfer(url, part, about, seconds)
            break
        except (OSError, HTTPException) as error:
            if _is_of_disk(error):
                raise
            refusals.append(f"{urlsplit(url).hostname}: {_reason(error)}")
    else:
        raise ConnectionError(f"{path.name} cannot be fetched ({'; '.join(refusals)}){_kept(part)}")
    verify(part, path.name, checksum)
    os.replace(part, path)


def verify(path: Path, name: str, checksum: str) -> None:
    """Nothing where the file has the checksum; otherwise it is removed, with an error that calls it `name`."""
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file, Meter(f"verifying {name}", path.stat().st_size) as meter:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            meter.add(len(chunk))
    if digest.hexdigest() != expected:
        path.unlink()
        raise DataError(
            f"{name}: wrong checksum, expected {kind} {expected}, got {digest.hexdigest()}; "
            f"the file was removed, run the command again"
        )


def _transfer(url: str, part: Path, about: int, seconds: float) -> None:
    """The whole file into `part`, taken up again as long as every attempt moves on."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            _receive(url, part, about, seconds)
            return
        except (OSError, HTTPException):
            if _size(part) <= before or attempt == ATTEMPTS:
                raise


def _receive(url: str, part: Path, about: int, seconds: float) -> None:
    """One request for what is missing; an error where the connection breaks off before the end."""
    start = _size(part)
    try:
        response = _open(url, start, seconds)
    except HTTPError as error:
        if error.code != 416:  # range not satisfiable: nothing is missing, or the part belongs to another file
            raise
        if _length_of_all(error.headers) == start:
            return
        part.unlink(missing_ok=True)
        start, response = 0, _open(url, 0, seconds)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ConnectionError("a web page came instead of the file; if its quota is used up, try again tomorrow")
        if response.status != 206 or _first_byte(response.headers) != start:
            start = 0  # the server sends everything, whatever was asked for
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        name = part.name.removesuffix(".part")
        with part.open("ab" if start else "wb") as file, Meter(name, total or about, start) as meter:
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                meter.add(len(chunk))
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection broke off after {_size(part):,} of {total:,} bytes")


def _open(url: str, start: int, seconds: float) -> HTTPResponse:
    """The server's answer, its body unread.

    In a thread of its own: looking up a name has no time limit of its own, and every address has the whole of it.
    """
    headers = {"User-Agent": "lightning_cv", "Accept-Encoding": "identity"}
    request = Request(url, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urlopen(request, timeout=seconds))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _reason(error: OSError | HTTPException) -> str:
    if isinstance(error, HTTPError):
        return f"status {error.code} {error.reason}"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError) and str(reason) == "timed out":
        return "no answer in time"
    return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).strip()


def _is_of_disk(error: OSError | HTTPException) -> bool:
    """Whether a file could not be opened or written, which no other mirror would change."""
    if isinstance(error, URLError | HTTPException):
        return False
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _kept(part: Path) -> str:
    arrived = _size(part)
    if arrived == 0:
        part.unlink(missing_ok=True)
        return ": is this machine connected to the network?"
    return f"; the {megabytes(arrived)} that arrived are kept, run the command again to go on"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _first_byte(headers: Message) -> int:
    """Of "Content-Range: bytes 200-999/1000"; -1 where there is none."""
    first = headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    return int(first) if first.isdigit() else -1


def _length_of_all(headers: Message) -> int:
    """Of "Content-Range: bytes */1000"; -1 where there is none."""
    total = headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else -1
