"""The square in the middle: where it lies, how it shrinks, and when it is mirrored."""

import numpy as np
import pytest
import torch

from lightning_cv.transforms.autoencoder import AutoencoderEval, AutoencoderTrain, middle_square


def numbered(height, width):
    """Row in the first channel, column in the second."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows, columns, np.zeros_like(rows)]).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "crop", "corner", "side"),
    [
        (218, 178, 148, (35, 15), 148),
        (50, 80, None, (0, 15), 50),
        (81, 40, None, (20, 0), 40),
        (30, 40, 148, (0, 5), 30),
    ],
)
def test_the_square_lies_in_the_middle(height, width, crop, corner, side):
    square = middle_square(numbered(height, width), side, crop)
    assert square.shape == (side, side, 3)
    assert tuple(square[0, 0, :2]) == corner
    assert tuple(square[-1, -1, :2]) == (corner[0] + side - 1, corner[1] + side - 1)


def test_shrinking_takes_means_of_areas():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    means = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(middle_square(image, 16) - means).max() <= 0.51


def test_one_pixel_and_growing():
    assert AutoencoderEval(8).image(np.full((1, 5, 3), 51, np.uint8)).allclose(torch.full((3, 8, 8), 0.2))
    assert AutoencoderEval(1).image(np.full((4, 4, 3), 102, np.uint8)).allclose(torch.full((3, 1, 1), 0.4))


def test_training_mirrors_by_the_seed_alone():
    sample = {"image_id": "a", "image": numbered(10, 10), "label": 3}
    plain = AutoencoderEval(10)(sample, 0)
    assert (plain.image_id, plain.label) == ("a", 3)
    transform = AutoencoderTrain(10)
    mirrored = []
    for seed in range(400):
        prepared = transform(sample, seed)
        assert torch.equal(prepared.image, transform(sample, seed).image)
        mirrored.append(torch.equal(prepared.image, plain.image.flip(-1)))
        assert mirrored[-1] or torch.equal(prepared.image, plain.image)
    assert 160 < sum(mirrored) < 240
    still = AutoencoderTrain(10, flip=False)
    assert all(torch.equal(still(sample, seed).image, plain.image) for seed in range(20))


def test_grey_is_one_channel():
    image = np.zeros((6, 6, 3), np.uint8)
    image[..., 1] = 255
    grey = AutoencoderEval(6, grey=True).image(image)
    assert grey.shape == (1, 6, 6)
    torch.testing.assert_close(grey.mean(), torch.tensor(0.587), atol=0.003, rtol=0)
    square = AutoencoderEval(6, grey=True).square(image)
    assert torch.equal(
        AutoencoderTrain(6, flip=False, grey=True)({"image_id": "", "image": square, "label": 0}, 0).image, grey
    )


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 8, "crop": 0}])
def test_sizes_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        AutoencoderTrain(**arguments)
