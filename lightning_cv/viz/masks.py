"""Class masks in colour, over their image and beside the truth. Letters: H, W height and width in px; K classes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_cv.contracts import VOID, LabelMap
from lightning_cv.replaced import replaced
from lightning_cv.viz.canvas import (
    FONT_SIZE,
    GAP,
    Picture,
    below,
    beside,
    class_colour,
    enlarge,
    magnification,
    picture,
    text_line,
    text_size,
)

LEGIBLE = 224


def voc_palette() -> NDArray[np.uint8]:
    """The 256 colours of PASCAL VOC's mask files, (256, 3): bits of the number, dealt out to red, green and blue."""
    numbers = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            palette[:, channel] |= ((numbers >> (3 * level + channel) & 1) << (7 - level)).astype(np.uint8)
    return palette


def colour_mask(mask: Tensor | NDArray[Any]) -> Picture:
    """Class mask (H, W) in VOC's colours (H, W, 3); VOID is the light grey of VOC's contours."""
    coloured: Picture = voc_palette()[_numbers(mask)]
    return coloured


def save_class_mask(mask: Tensor | NDArray[Any], path: Path) -> None:
    """Write a class mask (H, W) as VOC stores it: a PNG of class numbers with VOC's colours as its palette.

    The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = Image.fromarray(_numbers(mask).astype(np.uint8))
    stored.putpalette(voc_palette().ravel().tolist())
    with replaced(path) as file:
        stored.save(file, format="PNG")


def display_palette() -> NDArray[np.uint8]:
    """256 colours (256, 3) that stay apart on a picture, those that boxes have too; VOID is light, 0 is black."""
    palette = np.array([class_colour(label) for label in range(256)], dtype=np.uint8)
    palette[0], palette[VOID] = 0, voc_palette()[VOID]
    return palette


def overlay(image: Tensor | Picture, mask: Tensor | NDArray[Any], opacity: float = 0.65) -> Picture:
    """The image in grey with its class mask's `display_palette` colours over it; background (0) stays clear."""
    return _blended(picture(image).mean(axis=2, keepdims=True), _numbers(mask), opacity)


def tint_classes(image: Tensor | Picture, mask: Tensor | NDArray[Any], opacity: float = 0.5) -> Picture:
    """The image with its class mask's `display_palette` colours over it; background (0) stays as it is."""
    return _blended(picture(image), _numbers(mask), opacity)


def tint_instances(image: Tensor | Picture, masks: Tensor | NDArray[np.bool_], opacity: float = 0.5) -> Picture:
    """The image with each mask (N, H, W) in a colour of its own over it, neighbours in the list far apart in hue."""
    shown = picture(image).astype(np.float32)
    for number, mask in enumerate(np.asarray(masks, dtype=bool), start=1):
        shown[mask] = (1 - opacity) * shown[mask] + opacity * np.array(class_colour(number), np.float32)
    return shown.round().astype(np.uint8)


def legend(labels: list[int], label_map: LabelMap, width: int) -> Picture:
    """Swatches and names of the classes, in as many lines as `width` px need."""
    palette, swatch = display_palette(), FONT_SIZE
    rows: list[list[Picture]] = [[]]
    used = 0
    for label in labels:
        name = "not counted" if label == VOID else label_map.name(label)
        colour = np.broadcast_to(palette[label], (swatch, swatch, 3))
        patch = np.pad(colour, ((4, 4), (0, 0), (0, 0)), constant_values=255)
        entry = beside([patch, text_line(name, text_size(name)[0] + 8)], gap=4)
        if rows[-1] and used + entry.shape[1] > width:
            rows.append([])
            used = 0
        rows[-1].append(entry)
        used += entry.shape[1] + GAP
    return below([beside(row) for row in rows if row] or [np.full((1, 1, 3), 255, np.uint8)], gap=0)


def masks_beside_truth(
    image: Tensor | Picture, preds: Tensor | NDArray[Any], targets: Tensor | NDArray[Any], label_map: LabelMap
) -> Picture:
    """Image, truth and prediction in a row under their headings, enlarged where small, with a legend below."""
    base, guess, truth = picture(image), _numbers(preds), _numbers(targets)
    factor = magnification(base, LEGIBLE)
    panels = {"image": base, "truth": overlay(base, truth), "predicted": overlay(base, guess)}
    shown = beside(
        [
            below([text_line(heading, panel.shape[1] * factor), enlarge(panel, factor)], gap=0)
            for heading, panel in panels.items()
        ]
    )
    present = sorted((set(np.unique(truth).tolist()) | set(np.unique(guess).tolist())) - {0})
    return below([shown, legend(present, label_map, shown.shape[1])])


def _blended(base: NDArray[Any], numbers: NDArray[np.int64], opacity: float) -> Picture:
    if base.shape[:2] != numbers.shape:
        raise ValueError(f"the mask {numbers.shape} must have the size of its image {base.shape[:2]}")
    mixed = (1 - opacity) * base + opacity * display_palette()[numbers]
    coloured: Picture = np.where((numbers > 0)[..., None], mixed, base).round().astype(np.uint8)
    return coloured


def _numbers(mask: Tensor | NDArray[Any]) -> NDArray[np.int64]:
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"a class mask is (H, W), got shape {array.shape}")
    return array.astype(np.int64)
