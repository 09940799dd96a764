import numpy as np
import pytest
import torch
from PIL import Image

from lightning_cv.contracts import LabelMap
from lightning_cv.viz.masks import (
    colour_mask,
    display_palette,
    legend,
    masks_beside_truth,
    overlay,
    save_class_mask,
    voc_palette,
)

LABELS = LabelMap(("background", "disc", "star"), 0, (0, 1, 2))


def test_the_palette_is_vocs():
    palette = voc_palette()  # the first colours and that of the contours, from the devkit's colour map
    assert palette[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert palette[15].tolist() == [192, 128, 128]
    assert palette[20].tolist() == [0, 64, 128]
    assert palette[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.data
def test_the_palette_equals_that_of_a_real_mask_file(shared_data):
    file = next((shared_data / "VOCdevkit/VOC2007/SegmentationClass").glob("*.png"))
    with Image.open(file) as image:
        assert np.array_equal(
            np.array(image.getpalette()).reshape(-1, 3), voc_palette()[: len(image.getpalette()) // 3]
        )
        assert np.array_equal(colour_mask(np.array(image)), np.array(image.convert("RGB")))


def test_overlay_leaves_the_background_clear_and_colours_the_rest():
    image = torch.full((3, 2, 2), 0.5)
    drawn = overlay(image, torch.tensor([[0, 1], [2, 255]]), opacity=1.0)
    assert drawn[0, 0].tolist() == [128, 128, 128]
    assert drawn[0, 1].tolist() == display_palette()[1].tolist()
    assert drawn[1, 1].tolist() == display_palette()[255].tolist()
    half = overlay(image, torch.tensor([[0, 1], [2, 255]]), opacity=0.5)
    assert half[0, 1].tolist() == pytest.approx(((128 + display_palette()[1].astype(int)) / 2).tolist(), abs=1)
    with pytest.raises(ValueError, match="size of its image"):
        overlay(image, torch.zeros(3, 3, dtype=torch.int64))


def test_beside_the_truth_with_a_legend():
    mask = torch.tensor([[0, 1], [255, 2]]).repeat_interleave(32, 0).repeat_interleave(32, 1)
    drawn = masks_beside_truth(torch.rand(3, 64, 64), mask.clamp(max=2), mask, LABELS)
    for label in (1, 2, 255):  # the swatches of the legend show the full colours
        assert (drawn == display_palette()[label]).all(-1).any()
    empty = masks_beside_truth(torch.rand(3, 64, 64), mask * 0, mask * 0, LABELS)
    assert empty.shape[1] == drawn.shape[1]


def test_a_long_legend_takes_more_lines():
    labels = LabelMap(tuple(f"class number {n}" for n in range(21)), 0, tuple(range(21)))
    short, long = legend([1, 2], labels, 400), legend(list(range(1, 21)), labels, 400)
    assert long.shape[0] > 4 * short.shape[0]
    assert long.shape[1] <= 400 + 20


def test_a_class_mask_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "masks" / "a.png"
    mask = np.array([[0, 1], [20, 255]])
    save_class_mask(mask, path)
    written = path.read_bytes()

    def half(_, file, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="No space left"):
        save_class_mask(1 - mask.clip(max=1), path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == written
    with Image.open(path) as stored:
        assert np.array_equal(np.array(stored), mask)
