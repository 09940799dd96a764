"""Folders of pictures with class masks beside them: `images/` and `masks/`, once or in a folder for every split."""

from collections.abc import Sequence
from pathlib import Path

from lightning_cv.tools.data_check_findings import Findings, compare_splits
from lightning_cv.tools.data_check_layout import mask_folders, split_name
from lightning_cv.tools.data_check_look import look_at

VOID = 255


def check_masks(root: Path, classes: Sequence[str], findings: Findings, jobs: int) -> None:
    """Checks that every picture has a mask of its size and stem; `classes` name the values from 0, any if none."""
    digests: dict[str, dict[str, bytes]] = {}
    for folder in mask_folders(root):
        split = split_name(folder, root)
        pictures = look_at(_files(folder / "images"), "picture", jobs, f"{split} pictures")
        masks = look_at(_files(folder / "masks"), "mask", jobs, f"{split} masks")
        findings.looked_at("pictures", len(pictures))
        findings.looked_at("masks", len(masks))
        for path, look in [*pictures.items(), *masks.items()]:
            if look.error:
                kind = "picture" if path in pictures else "mask"
                findings.problem(f"{kind} that cannot be read", path, look.error)
        by_stem = {path.stem: look for path, look in pictures.items()}
        for stem in sorted(by_stem.keys() - {path.stem for path in masks}):
            findings.problem("missing mask", folder / "masks", f"of {stem}")
        for path, look in masks.items():
            picture = by_stem.get(path.stem)
            if picture is None:
                findings.problem("mask without a picture", path)
            if look.error:
                continue
            if look.mode not in ("P", "L"):
                findings.problem("mask with neither a palette nor grey values", path, f"Pillow's mode {look.mode}")
            if picture and not picture.error and (picture.width, picture.height) != (look.width, look.height):
                detail = f"has {look.size} pixels, its picture {picture.size}"
                findings.problem("size that differs from the picture's", path, detail)
            strange = [value for value, _ in look.values if len(classes) <= value != VOID]
            if classes and strange:
                findings.problem("unknown class", path, f"holds the values {strange}")
        digests[split] = {path.stem: look.digest for path, look in pictures.items()}
    compare_splits(digests, findings)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())
