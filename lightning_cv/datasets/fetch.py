"""Public data sets by torchvision's downloaders, put in their place only when they are whole."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

FETCHABLE = ("voc2007", "voc2012", "mnist")
"""What `fetch` knows."""


def fetch(name: str, root: str | Path) -> Path:
    """The folder of a data set below the data root; fetched unless it is there, in which case nothing is touched."""
    if name not in FETCHABLE:
        raise ValueError(f"no data set {name!r} to fetch; known are {', '.join(FETCHABLE)}")
    if name == "mnist":
        return _fetch(Path(root), Path("MNIST") / "raw", _download_mnist)
    year = name.removeprefix("voc")
    return _fetch(Path(root), Path("VOCdevkit") / f"VOC{year}", lambda scratch: _download_voc(scratch, year))


def _fetch(root: Path, place: Path, download: Callable[[Path], None]) -> Path:
    """`root / place`, downloaded under another name beside it first, so that a broken transfer leaves nothing."""
    folder = root / place
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=root))
    try:
        download(scratch)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(scratch / place, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _download_voc(scratch: Path, year: str) -> None:
    from torchvision.datasets import VOCDetection  # torchvision's data sets are slow to import and seldom needed

    VOCDetection(scratch, year=year, image_set="trainval", download=True)
    if year == "2007":  # the only year whose test annotations are public
        VOCDetection(scratch, year=year, image_set="test", download=True)


def _download_mnist(scratch: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(scratch, download=True)
