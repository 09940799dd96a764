"""Windows around objects and proposals: known by hand, by loops over pixels, and from drawn scenes."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from lightning_cv.contracts import VOID, Draw
from lightning_cv.datamodules import DrawnSegmentationDataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.voc import read_class_mask, read_object_mask
from lightning_cv.datasets.windows import ObjectWindows, ProposalWindows, enlarged, jittered, overlap_of, tight_boxes
from lightning_cv.ops.proposal_file import Listed, write_proposals
from lightning_cv.transforms import WindowTrain


class TwoObjects:
    """An image of 20 x 30 pixels with an object of class 3 on rows 4 to 7, columns 10 to 19, one of class 1 beside."""

    ids = ("a", "b")

    def __len__(self):
        return 2

    def masks_of(self, index):
        classes, objects = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
        if index == 0:
            classes[4:8, 10:20], objects[4:8, 10:20] = 3, 1
            classes[4:8, 20:24], objects[4:8, 20:24] = 1, 2
            classes[8, 10:24] = objects[8, 10:24] = VOID
        return classes, objects

    def __getitem__(self, index):
        image = np.arange(20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
        return {"image_id": self.ids[index], "image": image, "mask": self.masks_of(index)[0]}


def test_a_window_is_a_fifth_larger_than_its_object_which_alone_is_labelled():
    windows = ObjectWindows(context=1.2, balance=False).of(TwoObjects())
    assert windows.windows.boxes.tolist() == [
        [9, 3, 21, 9],
        [19, 3, 25, 9],
    ]  # 10 x 4 about (15, 6): 9 to 21, 3.6 to 8.4
    assert windows.windows.labels.tolist() == [3, 1]
    first, second = windows[0], windows[1]
    assert np.array_equal(first["image"], TwoObjects()[0]["image"][3:9, 9:21])
    expected = np.zeros((6, 12), np.uint8)
    expected[1:5, 1:11], expected[5, 1:] = 3, VOID  # the other object's first column is background
    assert np.array_equal(first["mask"], expected)
    assert set(np.unique(second["mask"]).tolist()) == {0, 1, VOID}


def test_rarer_classes_are_repeated():
    def masks(index):
        classes, objects = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
        for number, label in enumerate([[2, 2], [2, 5]][index]):
            classes[3 * number, 1], objects[3 * number, 1] = label, number + 1
        return classes, objects

    source = TwoObjects()
    source.masks_of = masks
    windows = ObjectWindows().of(source).windows
    assert windows.labels.tolist() == [2, 2, 2, 5, 5, 5]
    assert windows.images.tolist() == [0, 0, 1, 1, 1, 1]


def test_proposals_of_a_file_are_taken_where_they_overlap_an_object_and_show_all_classes(tmp_path):
    file = tmp_path / "proposals.npz"
    boxes = [[10, 4, 20, 8], [10, 4, 24, 8], [0, 0, 30, 20], [19, 4, 25, 8], [10, 4, 20, 8]]
    with file.open("wb") as out:
        write_proposals(out, {"a": listed(boxes), "b": listed([])})
    windows = ProposalWindows(str(file), most=4, context=1.0, balance=False).of(TwoObjects())
    # overlaps by hand: 1; 40/56; 40/600; 16/24 of the second object; the fifth is not among the best 4
    assert ProposalWindows(str(file)).files() == [file]
    assert windows.windows.boxes.tolist() == [boxes[0], boxes[1], boxes[3]]
    assert windows.windows.labels.tolist() == [3, 3, 1]
    assert set(np.unique(windows[1]["mask"]).tolist()) == {1, 3}


def test_drawn_proposals_overlap_their_object_and_are_the_same_each_time():
    windows = ProposalWindows(most=30, balance=False).of(TwoObjects()).windows
    again = ProposalWindows(most=30, balance=False).of(TwoObjects()).windows
    other = ProposalWindows(most=30, balance=False, draw_seed=1).of(TwoObjects()).windows
    assert np.array_equal(windows.boxes, again.boxes)
    assert not np.array_equal(windows.boxes[:5], other.boxes[:5])
    assert {1, 3} == set(windows.labels.tolist())
    assert 10 < len(windows.boxes) < 60
    drawn = jittered(np.array([[10, 4, 20, 8]], np.float32), 200, 0.5, np.random.default_rng(0), (20, 30))
    assert (drawn >= 0).all()
    assert drawn[:, [0, 2]].max() <= 20 + 10 * (0.5 + 2**0.5 / 2 - 0.5)
    assert drawn.std(axis=0).min() > 0.5


def test_overlap_by_counting_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 8, (12, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 8, (12, 2))], axis=1).astype(np.float32)

    def pixels(box):
        return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}

    expected = [[len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b)) for b in boxes[:5]] for a in boxes]
    np.testing.assert_allclose(overlap_of(boxes, boxes[:5]), expected, rtol=1e-6)


def test_windows_end_at_the_image_and_objects_without_a_class_are_none():
    assert enlarged(np.array([[0, 0, 10, 4]], np.float32), 2.0, 5, 12).tolist() == [[0, 0, 12, 5]]
    classes, objects = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    objects[0, 0], objects[1, 1], classes[1, 1] = 1, 2, VOID
    assert tight_boxes(classes, objects)[0].tolist() == []


@pytest.mark.parametrize(("context", "windows"), [(0.9, ObjectWindows), (0.5, ProposalWindows)])
def test_bad_settings_are_named(context, windows):
    with pytest.raises(ValueError, match=f"{windows.__name__}: context must be at least 1"):
        windows(context=context)
    with pytest.raises(ValueError, match="overlap above 0"):
        ProposalWindows(overlap=0)


def listed(boxes):
    return Listed(np.array(boxes, np.float32).reshape(-1, 4), (20, 30))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": listed([[3, 1, 2, 4]])}, "image a: x2 and y2 must exceed"),
        ({"a": listed([[0, 1, np.nan, 4]])}, "image a: x2 and y2 must exceed"),
        ({"b": listed([])}, "no proposals for image a"),
    ],
)
def test_a_bad_file_of_proposals_is_told(content, told, tmp_path):
    with (tmp_path / "p.npz").open("wb") as out:
        write_proposals(out, content)
    with pytest.raises((ValueError, DataError), match=told):
        ProposalWindows(str(tmp_path / "p.npz")).of(TwoObjects())
    with pytest.raises(ValueError, match="no file of proposals"):
        ProposalWindows(str(tmp_path / "none")).of(TwoObjects())
    for name, write in (("text", lambda file: file.write(b"{")), ("array", lambda file: np.save(file, np.zeros(3)))):
        with (tmp_path / name).open("wb") as out:
            write(out)
        with pytest.raises(ValueError, match=f"{name}: not a file of proposals"):
            ProposalWindows(str(tmp_path / name)).of(TwoObjects())


def test_no_object_at_all_is_told():
    source = TwoObjects()
    source.masks_of = lambda index: (np.zeros((20, 30), np.uint8),) * 2
    with pytest.raises(DataError, match="no window in any of 2 images"):
        ObjectWindows().of(source)


def test_sbds_object_masks_are_read(tmp_path):
    inside = np.zeros((2, 3), np.uint8)
    inside[0, 1] = 2
    for name, kind in (("cls.mat", "GTcls"), ("inst.mat", "GTinst")):
        savemat(tmp_path / name, {kind: {"Segmentation": inside * (1 if kind == "GTcls" else 3)}})
    assert np.array_equal(read_class_mask(tmp_path / "cls.mat"), inside)
    assert np.array_equal(read_object_mask(tmp_path / "inst.mat"), inside * 3)


def test_a_window_is_stretched_cut_and_mirrored_with_its_mask():
    image = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 12, axis=0).repeat(3, axis=2)  # (12, 24, 3)
    mask = (image[..., 0] // 120).astype(np.uint8)  # right half is class 1
    sample = {"image_id": "a", "image": image, "mask": mask}
    preset = WindowTrain(size=40, larger=48)
    seen = [preset(sample, seed) for seed in range(20)]
    assert {tuple(one.image.shape) for one in seen} == {(3, 40, 40)}
    rising = [bool(one.image[0, 0, -1] > one.image[0, 0, 0]) for one in seen]
    assert {True, False} == set(rising)
    for one, right in zip(seen, rising, strict=True):
        column = one.mask[0] if right else one.mask[0].flip(0)
        first = int(column.argmax())  # the class begins at column 24 of 48, less what was cut off: 0 to 8
        assert 16 <= first <= 24
        assert column[first:].all()
        level = one.image[0, 0] if right else one.image[0, 0].flip(0)
        assert level[first] * 255 > 112 > level[max(first - 2, 0)] * 255
    assert len({int(one.mask[0].sum()) for one in seen}) > 3
    with pytest.raises(ValueError, match="size must be 1 to larger"):
        WindowTrain(9, 8)


@pytest.mark.parametrize("windows", [ObjectWindows(), ProposalWindows(most=3)])
def test_a_data_module_trains_on_windows_and_tests_on_images(windows, tmp_path):
    settings = {"train": 6, "val": 2, "test": 2, "size": 64, "draw_seed": 3, "batch_size": 4}
    module = DrawnSegmentationDataModule(
        str(tmp_path), **settings, windows=windows, train_transform=WindowTrain(32, 36)
    )
    module.prepare_data()
    whole = module.source("train")
    batch = module.train_set()[[Draw(0, index) for index in range(4)]]
    assert batch["images"].shape == (4, 3, 32, 32)
    assert (batch["masks"] > 0).flatten(1).any(1).all()
    assert module.val_set()[[Draw(0, 0)]]["images"].shape == (1, 3, 64, 64)
    labels = module.train_set().source.windows.labels
    assert len(set(np.bincount(labels)[np.unique(labels)].tolist())) == 1
    assert set(labels.tolist()) <= {value for i in range(6) for value in np.unique(whole[i]["mask"]).tolist()}
    assert [len(module.files_of(use)) for use in ("train", "val")] == [12, 2]  # object masks, too
    repeated = module.train_set()[[Draw(0, index) for index in range(4)]]
    assert torch.equal(repeated["images"], batch["images"])
