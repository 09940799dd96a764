"""Boxes where objects may be, worked out once for each picture and kept on disk. Letters: P proposals; H, W a picture.

A cache is a folder:
- `proposals.json` says how the boxes were found: {"format": 1, "settings": {...}};
- `ab/abcdef....npy` are the boxes of one picture, float32 (P, 4), best first, in pixels of the file, x1, y1, x2, y2
  with the far edge exclusive; the name is the `picture_key` of the picture, so that it is of these very pixels;
- `index.json` maps image ids to {"key", "height", "width", "boxes"}.

Each file is written beside its place and then moved there: whatever stops a build, the next one goes on from there.
Any number of processes may read a cache, one at a time writes it: a build holds the folder's `locks.RunLock`.
A single file can stand for a folder: see `ops.proposal_file`.
"""

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import DetectionSample
from lightning_cv.datasets.errors import DataError
from lightning_cv.locks import LOCK
from lightning_cv.ops.proposal_file import Listed, read_proposals, write_proposals

Boxes = NDArray[np.float32]
Picture = NDArray[np.uint8]
Settings = dict[str, Any]  # Any: words and numbers, as a json holds them

FORMAT = 1
ABOUT, INDEX = "proposals.json", "index.json"
HOW = "lightning-cv proposals build"


class Entry(TypedDict):
    """What the index says of a picture."""

    key: str
    height: int
    width: int
    boxes: int


class Samples(Protocol):
    """Pictures and objects by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> DetectionSample: ...


def picture_key(image: Picture) -> str:
    """What a picture (H, W, 3) is, in 24 hex digits: of its size and its decoded pixels. About 1 ms for 500 x 375."""
    digest = hashlib.blake2b(f"{image.shape} {image.dtype}\n".encode(), digest_size=12)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


class Proposals(ABC):
    """Proposals by picture."""

    path: Path

    @abstractmethod
    def boxes_of(self, image_id: str, image: Picture) -> Boxes:
        """Boxes (P, 4) in pixels of the picture, best first; an error where they are not of this picture."""


class ProposalCache(Proposals):
    """The folder that `lightning-cv proposals build` writes, open for reading.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = read_settings(self.path)
        if self.settings is None:
            raise DataError(f"no proposals in {self.path}: there is no {ABOUT}; build them with `{HOW}`")
        self._index = read_index(self.path)
        self._known: set[str] = set()

    def boxes_of(self, image_id: str, image: Picture) -> Boxes:
        """As `Proposals`; a picture's pixels are compared with the cache when it is first asked for."""
        entry = self._index.get(image_id)
        if entry is None:
            raise DataError(f"{self.path} has no proposals for picture {image_id}: go on with `{HOW}`")
        refuse_other_size(self.path, image_id, image, entry["height"], entry["width"])
        if image_id not in self._known:
            if picture_key(image) != entry["key"]:
                raise DataError(
                    f"{self.path} is stale: picture {image_id} has changed since its proposals were found; "
                    f"run `{HOW}` again"
                )
            self._known.add(image_id)
        return read_boxes(place(self.path, entry["key"]))


class ProposalFile(Proposals):
    """Proposals of many pictures in one `.npz`, see `ops.proposal_file`.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._listed = read_proposals(path)
        except ValueError as error:
            raise DataError(str(error)) from None

    def boxes_of(self, image_id: str, image: Picture) -> Boxes:
        """As `Proposals`; the picture's size is compared."""
        if image_id not in self._listed:
            raise DataError(f"{self.path} has no proposals for picture {image_id}")
        boxes, size = self._listed[image_id]
        refuse_other_size(self.path, image_id, image, *size)
        return boxes.copy()


def open_proposals(path: str | Path) -> Proposals:
    """A folder of proposals, or an `.npz`."""
    return ProposalFile(path) if str(path).endswith(".npz") else ProposalCache(path)


class WithProposals:
    """Samples of a data set, each with its proposals.

    Args:
        source: the samples.
        proposals: of all its pictures.
    """

    def __init__(self, source: Samples, proposals: Proposals) -> None:
        self.source, self.proposals = source, proposals

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> DetectionSample:
        sample = self.source[index]
        sample["proposals"] = self.proposals.boxes_of(sample["image_id"], sample["image"])
        return sample


def pack(folder: Path, file: Path) -> int:
    """Write the boxes of a cache into one file; how many pictures it has."""
    cache = read_index(folder)
    if read_settings(folder) is None or not cache:
        raise DataError(f"no proposals in {folder}: build them with `{HOW}`")
    listed = {
        name: Listed(read_boxes(place(folder, entry["key"])), (entry["height"], entry["width"]))
        for name, entry in cache.items()
    }
    write_atomically(file, lambda part: write_proposals(part, listed))
    return len(listed)


def refuse_other_size(path: Path, image_id: str, image: Picture, height: int, width: int) -> None:
    """An error where proposals are of a picture of another size."""
    if image.shape[:2] != (height, width):
        raise DataError(
            f"{path}: the proposals of picture {image_id} are for {width} x {height} pixels, the picture has "
            f"{image.shape[1]} x {image.shape[0]}"
        )


def place(folder: Path, key: str) -> Path:
    """Where a cache keeps the boxes of a picture."""
    return folder / key[:2] / f"{key}.npy"


def read_settings(folder: Path) -> Settings | None:
    """How a cache's boxes were found; None where no build has begun."""
    file = folder / ABOUT
    if not file.is_file():
        return None
    content = _read_json(file)
    if content.get("format") != FORMAT or not isinstance(content.get("settings"), dict):
        raise DataError(f"{file}: not a cache of format {FORMAT}")
    settings: Settings = content["settings"]
    return settings


def read_index(folder: Path) -> dict[str, Entry]:
    """What a cache holds, by image id."""
    file = folder / INDEX
    index: dict[str, Entry] = _read_json(file) if file.is_file() else {}
    return index


def read_boxes(file: Path) -> Boxes:
    """The boxes (P, 4) of one picture."""
    try:
        boxes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: not readable proposals ({error}); delete it and run `{HOW}` again") from None
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{file}: proposals are float32 (P, 4), this is {boxes.dtype} {boxes.shape}")
    found: Boxes = boxes
    return found


def begin(folder: Path, settings: Settings) -> None:
    """Make a cache for boxes that are found so, or go on with one, of which the caller is the only writer.

    Raises:
        DataError: as `refuse_other_cache`.
    """
    refuse_other_cache(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    for left in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:  # of a build that was killed while it wrote
        left.unlink(missing_ok=True)
    if not (folder / ABOUT).is_file():
        write_json(folder / ABOUT, {"format": FORMAT, "settings": settings})


def refuse_other_cache(folder: Path, settings: Settings) -> None:
    """An error where a folder holds something else than boxes that are found so, or nothing.

    Raises:
        DataError: naming the folder, and the settings by which its boxes were found otherwise.
    """
    there = read_settings(folder)
    if there is None:
        if folder.is_dir() and any(file.name != LOCK and not file.match(".*.part") for file in folder.iterdir()):
            raise DataError(f"{folder} holds files that are no proposals: choose a new or empty folder")
    elif there != settings:
        names = sorted(name for name in there.keys() | settings.keys() if there.get(name) != settings.get(name))
        told = ", ".join(f"{name} {there.get(name)!r} there, {settings.get(name)!r} asked" for name in names)
        raise DataError(f"{folder} is stale: its proposals were found with other settings ({told}); use another folder")


def add_picture(folder: Path, image: Picture, search: Callable[[Picture], Boxes]) -> Entry:
    """Find and keep the boxes of one picture, unless they are there."""
    key = picture_key(image)
    file = place(folder, key)
    if file.is_file():
        boxes = read_boxes(file)
    else:
        boxes = np.ascontiguousarray(search(image), np.float32)
        write_atomically(file, lambda part: np.save(part, boxes, allow_pickle=False))
    return {"key": key, "height": image.shape[0], "width": image.shape[1], "boxes": len(boxes)}


def add_to_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Name pictures in the index, which replaces what it said of them; the caller is the only writer of the folder."""
    write_json(folder / INDEX, read_index(folder) | dict(entries))


def write_json(file: Path, content: Mapping[str, Any]) -> None:  # Any: whatever json holds
    """Write a json in one step."""
    text = json.dumps(content, indent=0, sort_keys=True) + "\n"
    write_atomically(file, lambda part: part.write(text.encode()))


def write_atomically(file: Path, write: Callable[[Any], object]) -> None:  # Any: a binary file
    """Let `write` fill a file beside its place and move it there: it is whole or not there at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    try:
        os.fchmod(descriptor, 0o644)  # a temporary file is its owner's alone
        with os.fdopen(descriptor, "wb") as part:
            write(part)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object, found {type(content).__name__}")
    return content
