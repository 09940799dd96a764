"""scikit-learn's digits and the store of images in memory."""

import pytest
import torch
from sklearn.datasets import load_digits

from lightning_cv.contracts import Draw
from lightning_cv.datasets.digits import digit_labels, load_digit_splits
from lightning_cv.datasets.memory import InMemoryImages, stratified_split


def test_every_image_is_in_one_split_with_its_own_label():
    splits = load_digit_splits()
    assert {name: len(split) for name, split in splits.items()} == {"train": 1258, "val": 270, "test": 269}
    pixels, classes = load_digits(return_X_y=True)
    seen = []
    for split in splits.values():
        for image, label, image_id in zip(split.images, split.labels.tolist(), split.ids, strict=True):
            row = int(image_id.removeprefix("digits_"))
            seen.append(row)
            assert label == classes[row]
            assert image.flatten().mul(16).tolist() == pixels[row].tolist()
    assert sorted(seen) == list(range(1797))


def test_splits_are_the_same_every_time_and_stratified():
    one, other = load_digit_splits(), load_digit_splits(16)
    for name in one:
        assert one[name].ids == other[name].ids
    whole = torch.cat([split.labels for split in one.values()]).bincount()
    for name, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert (one[name].labels.bincount() - whole * share).abs().max() <= 1


def test_digits_are_enlarged_between_0_and_1():
    images = load_digit_splits(16)["val"].images
    assert images.shape == (270, 1, 16, 16)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    with pytest.raises(ValueError, match="size 4"):
        load_digit_splits(4)


def test_label_map_of_digits():
    assert digit_labels().name(7) == "7"
    assert digit_labels().num_classes == 10


def test_a_batch_is_the_rows_asked_for():
    images = torch.arange(5 * 4, dtype=torch.uint8).view(5, 1, 2, 2)
    store = InMemoryImages(images, torch.tensor([4, 3, 2, 1, 0]), list("abcde"))
    batch = store[[Draw(0, 3), Draw(9, 0), Draw(0, 3)]]
    assert batch["image_ids"] == ["d", "a", "d"]
    assert batch["labels"].tolist() == [1, 4, 1]
    torch.testing.assert_close(batch["images"], images[[3, 0, 3]].float() / 255)
    floats = InMemoryImages(images.float(), store.labels, store.ids)[[Draw(0, 1)]]["images"]
    assert floats.flatten().tolist() == [4, 5, 6, 7]


def test_parts_that_do_not_belong_together():
    with pytest.raises(ValueError, match="3 images, 2 labels and 3 ids"):
        InMemoryImages(torch.zeros(3, 1, 2, 2), torch.zeros(2), list("abc"))


def test_stratified_split_divides_each_class():
    labels = torch.tensor([0] * 10 + [1] * 20 + [5])
    parts = stratified_split(labels, (0.5, 0.3, 0.2), seed=0)
    assert sorted(torch.cat(parts).tolist()) == list(range(31))
    assert [labels[part].bincount(minlength=6)[[0, 1]].tolist() for part in parts] == [[5, 10], [3, 6], [2, 4]]
    again, other = (stratified_split(labels, (0.5, 0.3, 0.2), seed=seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0], other[0])


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.5, -0.5)])
def test_fractions_that_make_no_whole(fractions):
    with pytest.raises(ValueError, match="add up to 1"):
        stratified_split(torch.zeros(4), fractions, seed=0)
