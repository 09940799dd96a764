"""VOC folders: corners, marks and lists as the files say, one clear message for each thing that can be wrong."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from voc_folder import GOOD, XML, an_object, refused, voc_folder, write_c

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.images import PackedPixels, read_rgb
from lightning_cv.datasets.repairs import DataWarning
from lightning_cv.datasets.voc import VOC_CLASSES, VOCDetection, VOCInstances, VOCSegmentation
from lightning_cv.datasets.voc_lists import SEG11VALID, TRAINAUG


@pytest.fixture
def root(tmp_path):
    return voc_folder(tmp_path)


@pytest.fixture
def folder(root):
    return root / "VOCdevkit/VOC2007"


def test_corners_are_counted_from_zero_with_the_far_edge_excluded(root):
    sample = VOCDetection(root, "2007", "train")[0]
    assert sample["image_id"] == "a"
    assert sample["boxes"].tolist() == [[0, 0, 20, 10], [2, 1, 5, 4]]  # a part is no object
    assert sample["labels"].tolist() == [15, 12]
    assert sample["difficult"].tolist() == [False, True]
    assert [sample[key].dtype for key in ("boxes", "labels", "difficult")] == [np.float32, np.int64, np.bool_]
    assert (sample["image"].shape, sample["image"].dtype) == ((10, 20, 3), np.uint8)


def test_fractional_corners_and_a_list_with_a_second_column(root):
    sample = VOCDetection(root, "2007", "val")[0]
    assert sample["boxes"].tolist() == [[1.5, 0, 7, 7.5]]
    assert sample["labels"].tolist() == [20]


def test_an_image_without_objects_survives(root):
    sample = VOCDetection(root, "2007", "train")[1]
    assert sample["boxes"].shape == (0, 4)
    assert sample["labels"].shape == sample["difficult"].shape == (0,)


def test_difficult_objects_can_be_left_out(root):
    samples = VOCDetection(root, "2007", "train+val", keep_difficult=False)
    assert [samples[index]["labels"].tolist() for index in range(3)] == [[15], [], [20]]


def test_joined_lists_name_an_image_once(root, folder):
    (folder / "ImageSets/Main/more.txt").write_text("c\na\n")
    assert VOCDetection(root, "2007", "train+val+more").ids == ["a", "b", "c"]


def test_truncated_marks(root, folder):
    cut_off = an_object("cat", 1, 1, 4, 4).replace("<difficult>", "<truncated>1</truncated><difficult>")
    write_c(folder, GOOD + cut_off)
    assert VOCDetection(root, "2007", "val")[0]["truncated"].tolist() == [False, True]


def test_images_with_a_single_object(root, folder):
    """a has one object that is not difficult, b none, c two."""
    write_c(folder, GOOD + GOOD)
    dataset = VOCDetection(root, "2007", "train+val", single_object=True, cache=True)
    assert dataset.ids == ["a"]
    assert dataset[0]["labels"].tolist() == [15]
    assert dataset[0]["boxes"].tolist() == [[0, 0, 20, 10]]


# --- lists of several years


@pytest.fixture
def years(root):
    """VOC2007, and VOC2012 with the images c (another picture under a known id), d and e."""
    first, second = (root / f"VOCdevkit/VOC{year}" for year in ("2007", "2012"))
    shutil.copytree(first, second)
    Image.fromarray(np.full((10, 20, 3), 240, np.uint8)).save(second / "JPEGImages/c.jpg")
    for old, new in (("a", "d"), ("b", "e")):
        for name in (f"JPEGImages/{old}.jpg", f"Annotations/{old}.xml", f"SegmentationClass/{old}.png"):
            (second / name).rename(second / name.replace(f"{old}.", f"{new}."))
        xml = second / f"Annotations/{new}.xml"
        xml.write_text(xml.read_text().replace(f"{old}.jpg", f"{new}.jpg"))
    for kind in ("Main", "Segmentation"):
        (second / f"ImageSets/{kind}/train.txt").write_text("d\ne\n")
    return root


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_a_union_of_years(years, reader):
    dataset = reader(years, "2007", "train+2012/train")
    assert dataset.ids == ["a", "b", "d", "e"]
    assert [int(dataset[index]["image"].mean()) for index in range(4)] == [0, 40, 0, 40]


def test_lists_can_be_taken_away(years):
    assert VOCDetection(years, "2007", "train+val+2012/train - 2007/train - 2012/val").ids == ["d", "e"]
    with pytest.raises(DataError, match="leaves no image"):
        VOCDetection(years, "2007", "train - train")


@pytest.mark.parametrize("strict", [False, True])
def test_an_id_with_two_pictures_in_two_years_is_refused(years, strict):
    refused(
        years, "image id c is in", "VOCdevkit/VOC2007", "VOCdevkit/VOC2012", split="val+2012/val", strict=strict
    )  # fmt: skip
    refused(years, "image id c", "VOCdevkit/VOC2012", reader=VOCSegmentation, split="train+val+2012/train+2012/val")
    assert VOCDetection(years, "2007", "val+2012/val+2012/train - 2007/val", strict=strict).ids == ["d", "e"]


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_the_same_picture_in_two_years_is_one_image_of_the_first(years, reader):
    """As with VOC 2011 and 2012, whose pictures are the same under the same ids."""
    shutil.copy(years / "VOCdevkit/VOC2007/JPEGImages/c.jpg", years / "VOCdevkit/VOC2012/JPEGImages/c.jpg")
    write_c(years / "VOCdevkit/VOC2012", GOOD)
    dataset = reader(years, "2007", "val+2012/val+2012/train")
    assert dataset.ids == ["c", "d", "e"]
    if reader is VOCDetection:
        assert dataset[0]["labels"].tolist() == [20]


def test_a_missing_year_is_named(years):
    with pytest.raises(DataError, match=r"VOC2011.*data get voc2011"):
        VOCDetection(years, "2007", "train+2011/val")


@pytest.fixture
def with_sbd(years):
    """SBD with the images c, of VOC, and f."""
    folder = years / "sbd"
    for name in ("img", "cls"):
        (folder / name).mkdir(parents=True)
    for image_id in ("c", "f"):
        Image.fromarray(np.full((10, 20, 3), 200, np.uint8)).save(folder / f"img/{image_id}.jpg")
        mask = np.full((10, 20), 9, np.uint8)
        savemat(folder / f"cls/{image_id}.mat", {"GTcls": {"Segmentation": mask, "CategoriesPresent": [9]}})
    (folder / "train.txt").write_text("f\n")
    (folder / "val.txt").write_text("c\n")
    return years


def test_the_augmented_training_list(with_sbd):
    """VOC's masks where VOC has them, SBD's elsewhere; VOC's validation images, also those in SBD, left out."""
    dataset = VOCSegmentation(with_sbd, "2012", TRAINAUG, cache=True)
    assert dataset.ids == ["d", "e", "f"]
    assert (dataset[2]["mask"] == 9).all()
    assert set(np.unique(dataset[0]["mask"])) == {0, 15, 255}


def test_the_validation_list_of_fcn(with_sbd):
    shutil.copytree(with_sbd / "VOCdevkit/VOC2012", with_sbd / "VOCdevkit/VOC2011")
    lists = with_sbd / "VOCdevkit/VOC2011/ImageSets/Segmentation"
    (lists / "val.txt").write_text("c\nd\n")
    (with_sbd / "sbd/train.txt").write_text("f\nd\n")
    assert VOCSegmentation(with_sbd, "2012", SEG11VALID).ids == ["c"]


def test_a_damaged_mask_of_sbd(with_sbd):
    (with_sbd / "sbd/cls/f.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(100))
    dataset = VOCSegmentation(with_sbd, "2012", "sbd/train")
    with pytest.raises(DataError, match=r"cls/f\.mat: not a readable mask of SBD"):
        dataset[0]


# --- masks of objects


@pytest.fixture
def with_objects(root, folder):
    """c holds a cat, left, and a dog, right; its object mask counts them in that order."""
    write_c(folder, an_object("cat", 1, 1, 8, 10) + an_object("dog", 11, 1, 20, 10))
    classes, objects = (np.zeros((10, 20), np.uint8) for _ in range(2))
    classes[:, :8], objects[:, :8] = 8, 1
    classes[:, 10:], objects[:, 10:] = 12, 2
    classes[:, 8:10] = objects[:, 8:10] = 255
    (folder / "SegmentationObject").mkdir()
    Image.fromarray(classes).save(folder / "SegmentationClass/c.png")
    Image.fromarray(objects).save(folder / "SegmentationObject/c.png")
    return root


@pytest.mark.parametrize("swapped", [False, True])
def test_object_masks(with_objects, folder, swapped):
    """Also where the numbers of the mask are not the order of the annotation: the classes tell."""
    if swapped:
        objects = np.array(Image.open(folder / "SegmentationObject/c.png"))
        objects[objects < 255] = np.array([0, 2, 1], np.uint8)[objects[objects < 255]]
        Image.fromarray(objects).save(folder / "SegmentationObject/c.png")
    sample = VOCInstances(with_objects, "2007", "val")[0]
    assert sample["labels"].tolist() == [8, 12]
    assert sample["masks"].dtype == np.bool_
    assert [np.flatnonzero(mask.any(axis=0)).tolist() for mask in sample["masks"]] == [[*range(8)], [*range(10, 20)]]


def test_an_object_without_pixels_is_left_out(with_objects, folder):
    objects = np.array(Image.open(folder / "SegmentationObject/c.png"))
    objects[objects == 1] = 0
    Image.fromarray(objects).save(folder / "SegmentationObject/c.png")
    with pytest.warns(DataWarning, match=r"object without pixels left out .*SegmentationObject/c\.png, object 1"):
        sample = VOCInstances(with_objects, "2007", "val")[0]
    assert sample["labels"].tolist() == [12]
    assert sample["masks"].shape == (1, 10, 20)
    refused(with_objects, "c.png, object 1", "strict", reader=VOCInstances, split="val", strict=True)


def test_a_mask_of_no_object_is_told(with_objects, folder):
    write_c(folder, an_object("cat", 1, 1, 8, 10))
    with pytest.warns(DataWarning, match="mask of no object left out .*value 2"):
        assert VOCInstances(with_objects, "2007", "val")[0]["labels"].tolist() == [8]
    refused(with_objects, "c.png, value 2", "strict", reader=VOCInstances, split="val", strict=True)


def test_a_declared_size_with_its_sides_swapped_cuts_nothing(root, folder):
    text = XML.replace("<width>20</width><height>10</height>", "<width>10</width><height>20</height>")
    write_c(folder, an_object("cat", 12, 2, 18, 9) + GOOD, text)
    with pytest.warns(DataWarning, match="1 x declared size that is not the picture's passed over"):
        sample = VOCDetection(root, "2007", "val")[0]
    assert sample["boxes"].tolist() == [[11, 1, 18, 9], [2, 1, 5, 4]]


def test_images_of_sbd_have_no_objects(with_sbd):
    with pytest.raises(DataError, match="SBD, which have no annotated boxes"):
        VOCInstances(with_sbd, "2012", "sbd/train")


def test_class_masks_and_their_labels(root):
    dataset = VOCSegmentation(root, "2007", "train+val")
    sample = dataset[2]
    assert sample["mask"].tolist() == [[0] * 10 + [15] * 9 + [255]] * 10
    assert sample["image"].shape == (10, 20, 3)
    assert dataset.label_map.name(15) == "person"
    assert dataset.label_map.num_classes == 21


def test_class_masks_of_any_object(root):
    dataset = VOCSegmentation(root, "2007", "train+val", binary=True)
    assert dataset[2]["mask"].tolist() == [[0] * 10 + [1] * 9 + [255]] * 10
    assert dataset[2]["mask"].dtype == np.uint8
    assert dataset.label_map.names == ("background", "object")


def test_label_planes(root):
    """Void is void in every plane; a pixel of the background is off in all."""
    dataset = VOCSegmentation(root, "2007", "train+val", multilabel=True)
    planes = dataset[2]["mask"]
    assert planes.shape == (10, 20, 20)
    assert planes.dtype == np.uint8
    assert planes[:, :, 14].tolist() == [[0] * 10 + [1] * 9 + [255]] * 10
    assert (np.delete(planes, 14, axis=2) == np.array([0] * 19 + [255])[:, None]).all()
    assert (dataset.label_map.num_classes, dataset.label_map.name(15)) == (20, "person")
    with pytest.raises(ValueError, match="binary or multilabel"):
        VOCSegmentation(root, "2007", "train", binary=True, multilabel=True)


def test_label_map_of_boxes(root):
    label_map = VOCDetection(root, "2007", "train").label_map
    assert (label_map.num_classes, label_map.name(1), label_map.name(20)) == (20, "aeroplane", "tvmonitor")


@pytest.mark.parametrize("reader", [VOCDetection, VOCSegmentation])
def test_the_cache_changes_nothing_and_gives_copies(root, folder, reader):
    fresh, cached = reader(root, "2007", "train+val"), reader(root, "2007", "train+val", cache=True)
    shutil.rmtree(folder / "SegmentationClass") if reader is VOCDetection else None
    for index in range(3):
        for one, other in zip(fresh[index].values(), cached[index].values(), strict=True):
            np.testing.assert_array_equal(one, other)
    cached[0]["image"][:] = 7
    assert not (cached[0]["image"] == 7).all()


def test_packed_pixels_keep_images_of_different_sizes(tmp_path):
    images = [np.arange(h * w * 3, dtype=np.uint8).reshape(h, w, 3) for h, w in ((2, 3), (5, 1), (4, 4))]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    packed = PackedPixels([tmp_path / f"{number}.png" for number in range(3)], read_rgb)
    assert len(packed) == 3
    for number in (2, 0, 1):
        np.testing.assert_array_equal(packed[number], images[number])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_colour_modes_are_read_as_rgb(root, folder, mode):
    suffix = "jpg" if mode in ("L", "CMYK") else "png"
    Image.fromarray(np.full((10, 20, 3), 102, np.uint8)).convert(mode).save(folder / f"JPEGImages/odd.{suffix}")
    (folder / "Annotations/c.xml").write_text(XML.format(image=f"odd.{suffix}", objects=""))
    image = VOCDetection(root, "2007", "val")[0]["image"]
    assert image.shape == (10, 20, 3)
    assert np.abs(image.astype(int) - 102).max() <= 3


def test_a_rotation_noted_in_exif_is_not_applied(root, folder):
    picture = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(folder / "JPEGImages/c.jpg", exif=exif)
    assert VOCDetection(root, "2007", "val")[0]["image"].shape == (10, 20, 3)


# --- the real files


@pytest.mark.data
def test_real_voc2007(shared_data):
    sizes = {split: len(VOCDetection(shared_data, "2007", split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 255, "val": 128, "test": 128}
    dataset = VOCDetection(shared_data, "2007", "train+val+test")
    assert len(dataset) == 511
    counts = np.zeros(2, np.int64)
    for index in range(len(dataset)):
        sample = dataset[index]
        height, width = sample["image"].shape[:2]
        counts += [len(sample["labels"]), sample["difficult"].sum()]
        assert (sample["boxes"][:, :2] >= 0).all()
        assert (sample["boxes"][:, 2:] <= [width, height]).all()
        assert (sample["boxes"][:, 2:] > sample["boxes"][:, :2]).all()
    assert counts.tolist() == [1536, 323]
    joined, listed = (VOCDetection(shared_data, "2007", split).ids for split in ("train+val", "trainval"))
    assert sorted(joined) == sorted(listed)


@pytest.mark.data
def test_real_voc2007_cow(shared_data):
    dataset = VOCDetection(shared_data, "2007", "train+val+test")
    cow = dataset[dataset.ids.index("000013")]  # its xml says 299, 160, 446, 252
    assert cow["boxes"].tolist() == [[298, 159, 446, 252]]
    assert [VOC_CLASSES[label - 1] for label in cow["labels"]] == ["cow"]


@pytest.mark.data
@pytest.mark.parametrize(("year", "masks"), [("2007", 130), ("2012", 57)])
def test_real_class_masks(shared_data, year, masks):
    splits = sorted(path.stem for path in (shared_data / f"VOCdevkit/VOC{year}/ImageSets/Segmentation").glob("t*.txt"))
    dataset = VOCSegmentation(shared_data, year, "+".join(splits))
    assert len(dataset) == masks
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["mask"].shape == sample["image"].shape[:2]


@pytest.mark.data
def test_real_voc2012_parts_are_no_objects(shared_data):
    splits = [
        path.stem for path in (shared_data / "VOCdevkit/VOC2012/ImageSets/Main").glob("*.txt") if "_" not in path.stem
    ]
    dataset = VOCDetection(shared_data, "2012", "+".join(sorted(splits)))
    assert len(dataset) == 63
    assert sum(len(dataset[index]["labels"]) for index in range(63)) == 158


@pytest.mark.data
@pytest.mark.parametrize(("year", "masks"), [("2007", 67), ("2012", 27)])
def test_real_object_masks(shared_data, year, masks):
    dataset = VOCInstances(shared_data, year, "derived_object")
    assert len(dataset) == masks
    for index in range(masks):
        sample = dataset[index]
        assert len(sample["masks"]) == len(sample["boxes"]) > 0
        for mask, box in zip(sample["masks"], sample["boxes"], strict=True):
            ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            frame = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
            assert np.abs(frame - box).max() <= 12, (sample["image_id"], frame, box)


@pytest.mark.data
def test_real_union(shared_data):
    years = {"2007": "train+val+test", "2012": "2012/train+2012/val"}
    sizes = {year: len(VOCDetection(shared_data, year, split)) for year, split in years.items()}
    joined = VOCDetection(shared_data, "2007", "+".join(years.values()))
    assert len(joined) == sum(sizes.values())
