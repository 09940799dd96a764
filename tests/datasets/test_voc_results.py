import numpy as np
import pytest
import torch

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.voc import voc_box_labels
from lightning_cv.datasets.voc_results import read_voc_detections, write_voc_detections

LABELS = voc_box_labels(("cat", "dog", "cow"))


def found(seed, number):
    """Detections with every kind of float32: whole, fractional, tiny; scores without ties."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 500, (number, 4)).astype(np.float32)
    corners[: number // 3] = np.round(corners[: number // 3])
    corners[number // 2 :, 0] *= np.float32(1e-20)
    corners = np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    scores = np.sort(rng.random(number).astype(np.float32))[::-1].copy()
    labels = rng.integers(1, 4, number)
    return {
        "boxes": torch.from_numpy(corners),
        "scores": torch.from_numpy(scores),
        "labels": torch.from_numpy(labels),
    }


def test_what_is_read_back_is_identical(tmp_path):
    written = {f"2008_{seed:06d}": found(seed, 12) for seed in range(20)}
    write_voc_detections(tmp_path, written, LABELS, "test")
    read = read_voc_detections(tmp_path, LABELS, "test")
    assert read.keys() == written.keys()
    for image_id, detections in written.items():
        for key, values in detections.items():
            assert torch.equal(read[image_id][key], values), (image_id, key)


def test_a_line_by_hand(tmp_path):
    detections = {
        "boxes": torch.tensor([[7.0, 11.0, 353.0, 498.0]]),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([2]),
    }
    paths = write_voc_detections(tmp_path, {"000001": detections}, LABELS, "test", "comp3")
    assert [path.name for path in paths] == [f"comp3_det_test_{name}.txt" for name in LABELS.names]
    assert [path.read_text() for path in paths] == ["", "000001 0.5 8 12 353 498\n", ""]


def test_an_id_with_a_space_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'my image'"):
        write_voc_detections(tmp_path, {"my image": found(0, 1)}, LABELS, "test")


def test_a_missing_class_is_named(tmp_path):
    write_voc_detections(tmp_path, {}, LABELS, "test")
    (tmp_path / "comp4_det_test_dog.txt").unlink()
    with pytest.raises(DataError, match=r"comp4_det_test_dog\.txt"):
        read_voc_detections(tmp_path, LABELS, "test")


@pytest.mark.parametrize("line", ["a 0.5 1 2 3", "a x 1 2 3 4", "a 0.5 1 2 3 nan", "a 0.5 1 2 3 4 5"])
def test_a_broken_line_is_named(tmp_path, line):
    write_voc_detections(tmp_path, {}, LABELS, "test")
    (tmp_path / "comp4_det_test_dog.txt").write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(DataError, match=r"comp4_det_test_dog\.txt, line 2"):
        read_voc_detections(tmp_path, LABELS, "test")
