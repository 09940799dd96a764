"""Which of the known layouts a folder has, and where its files lie."""

from collections.abc import Callable
from pathlib import Path

from lightning_cv.errors import UserError

LAYOUTS = ("voc", "coco", "celeba", "mnist", "masks")
"""The known layouts."""

SPLIT_JSON = "_annotations.coco.json"
"""The COCO file of a split beside its pictures, in the layout in which many labelling tools export."""


def find_layout(root: Path, asked: str) -> str:
    """The layout asked for, or with "auto" the only one found; an error where it is not there."""
    if not root.is_dir():
        raise UserError(f"no folder {root}")
    finders: dict[str, Callable[[Path], object]] = {
        "voc": devkits,
        "coco": coco_folder,
        "celeba": celeba_folder,
        "mnist": idx_folders,
        "masks": mask_folders,
    }
    found = [layout for layout in LAYOUTS if (asked in ("auto", layout)) and finders[layout](root)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{root} holds {' and '.join(found)}: name one with --layout, or one of its folders")
    missing = "none of the known layouts" if asked == "auto" else f"no folder of layout {asked}"
    raise UserError(f"{root} has {missing}: {_HINTS if asked == 'auto' else _HINT_OF[asked]}")


_HINT_OF = {
    "voc": "VOCdevkit/VOC*/ with JPEGImages and Annotations",
    "coco": "annotations/instances_*.json or panoptic_*.json, or SPLIT/_annotations.coco.json",
    "celeba": "img_align_celeba/ and list_*.txt",
    "mnist": "MNIST/raw/*-ubyte or *-ubyte.gz",
    "masks": "images/ and masks/",
}
_HINTS = "; ".join(f"{layout} is {hint}" for layout, hint in _HINT_OF.items())


def devkits(root: Path) -> list[Path]:
    """Folders with `JPEGImages`, `Annotations` or `SegmentationClass`: one a year, or the folder itself."""
    candidates = [root, *sorted(root.glob("VOC*")), *sorted((root / "VOCdevkit").glob("VOC*"))]
    parts = ("JPEGImages", "Annotations", "SegmentationClass")
    return [folder for folder in candidates if any((folder / part).is_dir() for part in parts)]


def coco_folder(root: Path) -> Path | None:
    """The folder that holds `annotations/`, or folders of splits with a json in each."""
    for folder in (root, root / "coco"):
        if split_jsons(folder) or any(
            any((folder / "annotations").glob(f"{kind}_*.json")) for kind in ("instances", "panoptic")
        ):
            return folder
    return None


def split_jsons(folder: Path) -> list[Path]:
    """The files `{split}/_annotations.coco.json`."""
    return sorted(folder.glob(f"*/{SPLIT_JSON}"))


def celeba_folder(root: Path) -> Path | None:
    """The folder that holds `img_align_celeba/` or the lists."""
    for folder in (root, root / "celeba"):
        names = ("img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt")
        if any((folder / name).exists() for name in names):
            return folder
    return None


def idx_folders(root: Path) -> list[Path]:
    """Folders with idx files: MNIST's, Fashion-MNIST's, or the folder itself."""
    candidates = (root, root / "raw", root / "MNIST" / "raw", root / "FashionMNIST" / "raw")
    return [folder for folder in candidates if any(folder.glob("*-ubyte*"))]


def mask_folders(root: Path) -> list[Path]:
    """Folders with `images/` and `masks/`: the folder itself, or one a split."""
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return [folder for folder in candidates if all((folder / part).is_dir() for part in ("images", "masks"))]


def split_name(folder: Path, root: Path) -> str:
    """What a folder of a split is called."""
    return "all" if folder == root else str(folder.relative_to(root))
