"""R-CNN's stages on a few drawn scenes: what they sample, that they go on, and what they refuse."""

import time
from functools import partial

import numpy as np
import pytest
import torch

from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.proposals import WithProposals, open_proposals
from lightning_cv.datasets.selective_search import SelectiveSearch
from lightning_cv.datasets.voc import VOCDetection
from lightning_cv.datasets.writers import write_voc
from lightning_cv.errors import UserError
from lightning_cv.locks import RunLock
from lightning_cv.models import SmallBackbone
from lightning_cv.models.detection.rcnn import BoxRegression, RegionNet
from lightning_cv.tools.proposals import build
from lightning_cv.tools.rcnn import Story, results_of
from lightning_cv.tools.rcnn_detector import SVMDetector
from lightning_cv.tools.rcnn_regions import Recipe, background_of, digest, foreground_and_background, regions_of


class Around:
    """Proposals: each object's box, moved a little and a lot, and some that are far away."""

    settings = None

    def __init__(self, sources):
        self.settings = {"method": "around", "version": 1}
        self.known = [source[index] for source in sources for index in range(len(source))]

    def __call__(self, image):
        (sample,) = [one for one in self.known if np.array_equal(one["image"], image)]
        rng = np.random.default_rng(len(sample["labels"]))
        boxes = [sample["boxes"] + rng.normal(0, deviation, sample["boxes"].shape) for deviation in (1, 1, 2, 3, 8)]
        corners = rng.uniform(0, 40, (20, 2))
        far = np.concatenate([corners, corners + rng.uniform(6, 24, (20, 2))], axis=1)
        boxes = np.concatenate([*boxes, far]).clip(0, 64)
        return boxes[((boxes[:, 2:] - boxes[:, :2]) > 4).all(axis=1)].astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rcnn")
    write_voc(root / "scenes", "2007", {"train": 8, "val": 2, "test": 4}, 0, 64)
    sources = [VOCDetection(root / "scenes", "2007", split, DRAWN_CLASSES) for split in ("train", "test")]
    for source in sources:
        build(source, Around(sources), root / "boxes")
    return root


def story(root, folder, steps=4, **recipe):
    torch.manual_seed(0)
    net = RegionNet(SmallBackbone(width=8, strides=(8,)), 10, size=32, context=2, grid=2, hidden=32, layers=1)
    samples = [
        WithProposals(VOCDetection(root / "scenes", "2007", split, DRAWN_CLASSES), open_proposals(root / "boxes"))
        for split in ("train", "test")
    ]
    numbers = Recipe(steps=steps, pictures_a_step=4, **{"lr_scales": {}, "decay_scales": {}} | recipe)
    return Story(net, numbers, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9), *samples, folder, {"steps": steps})


def test_all_stages_run_go_on_and_say_what_they_cost(root, tmp_path):
    first = story(root, tmp_path / "out").run()
    assert set(first["seconds"]) == {"finetune", "features", "svms", "boxes", "detections"}
    size = sum(f.stat().st_size for f in (tmp_path / "out").rglob("*") if f.is_file() and f.name != "results.json")
    assert first["bytes_on_disk"] == pytest.approx(size, abs=2000)
    assert 0 <= first["figures"]["test/map_50"] <= 1
    again = story(root, tmp_path / "out").run()
    assert again == first  # nothing was done again
    (tmp_path / "out" / "features" / "3.npz").unlink()
    (tmp_path / "out" / "svms.npz").unlink()
    for file in (tmp_path / "out" / "detections").glob("*.npz"):
        file.unlink()
    repaired = story(root, tmp_path / "out").run()
    assert repaired["figures"]["test/map_50"] == first["figures"]["test/map_50"]
    assert repaired["seconds"]["boxes"] == first["seconds"]["boxes"]


def test_fine_tuning_that_was_stopped_ends_in_the_same_weights(root, tmp_path, monkeypatch):
    whole, stopped = (story(root, tmp_path / name, save_every=2) for name in ("whole", "stopped"))
    assert whole.finetune()
    drawn = stopped.step
    monkeypatch.setattr(stopped, "step", lambda number: drawn(number) if number < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stopped.finetune()
    resumed = story(root, tmp_path / "stopped", save_every=2)
    resumed.net.score.bias.data.fill_(9.0)  # what it begins with does not matter
    assert resumed.finetune()
    assert not (tmp_path / "stopped" / "finetune.part.pt").exists()
    for one, other in zip(whole.net.state_dict().values(), resumed.net.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_seconds_of_a_stage_that_was_killed_are_kept(root, tmp_path, monkeypatch):
    ours = story(root, tmp_path / "out")
    ours.run("finetune")
    described, told = ours.described, []

    def slow(image, boxes):
        told.append(1)
        time.sleep(0.05)
        return described(image, boxes) if len(told) < 5 else 1 / 0

    monkeypatch.setattr(ours, "described", slow)
    with pytest.raises(ZeroDivisionError):
        ours.run("features")
    before = results_of(tmp_path / "out")["seconds"]["features"]
    assert before >= 0.2
    assert story(root, tmp_path / "out").run("features")["seconds"]["features"] > before


def test_learning_rates_are_the_released_solvers(root, tmp_path, monkeypatch):
    ours = story(
        root, tmp_path / "out", drop_every=2, lr_scales={"score": 10.0, "*.bias": 2.0}, decay_scales={"*.bias": 0.0}
    )
    seen = {}

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    seen.setdefault(id(parameter), []).append((group["lr"], group["weight_decay"]))
            return super().step(closure)

    ours.optimizer = lambda groups: Watched(groups, lr=0.01, weight_decay=0.1)
    ours.finetune()
    of = {name: seen[id(parameter)] for name, parameter in ours.net.named_parameters()}
    assert [rate for rate, _ in of["connected.0.weight"]] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert {decay for _, decay in of["connected.0.weight"]} == {0.1}
    assert of["connected.0.bias"][0] == pytest.approx((0.02, 0.0))
    assert of["score.weight"][0] == pytest.approx((0.1, 0.1))
    assert of["score.bias"][3] == pytest.approx((0.02, 0.0))


def test_half_of_the_crops_are_mirrored(root, tmp_path):
    plain, mirrored = (story(root, tmp_path / str(on), mirror=on).step(0)[0] for on in (False, True))
    same = [torch.equal(one, other) for one, other in zip(plain, mirrored, strict=True)]
    flipped = [torch.equal(one, other.flip(-1)) for one, other in zip(plain, mirrored, strict=True)]
    assert all(a or b for a, b in zip(same, flipped, strict=True))
    assert 40 < sum(same) < 88  # of 128


def test_stages_of_other_proposals_are_stale(root, tmp_path):
    boxes, ids = root / "boxes", ["000001"]
    there = digest(str(boxes), VOCDetection(root / "scenes", "2007", "train", DRAWN_CLASSES).ids)
    assert digest(str(boxes), ids) != there
    samples = story(root, tmp_path / "out", steps=1)

    def again(**asked):
        one = samples
        return Story(
            one.net, one.recipe, one.optimizer, one.train, one.test, tmp_path / "out", {"steps": 1}, pictures=asked
        )

    with pytest.raises(UserError, match="stale"):
        again(train="other", test="")
    ours = again(train="", test="first")
    ours.run()
    with pytest.raises(UserError, match=r"detections is stale"):
        again(train="", test="second").run()


def test_a_picture_keeps_so_many_of_each_class():
    scores = np.linspace(1, 0, 6)[:, None] * np.array([[1.0, 0.5]])
    boxes = np.stack([np.array([20 * row, 0, 20 * row + 10, 10]) for row in range(6)]).astype(np.float32)
    nothing = BoxRegression(np.zeros((4, 4)), np.zeros(4), np.eye(4))
    detector = SVMDetector(np.eye(2), np.zeros(2), 1.0, [nothing] * 2, 1.0, -1.0, 0.3, 2)
    found, _ = detector((10, 200), boxes, np.zeros((6, 3), np.float32), scores.astype(np.float32))
    assert found["labels"].tolist() == [1, 1, 2, 2]
    assert found["boxes"][:, 0].tolist() == [0, 20, 0, 20]


def test_a_stage_may_be_the_last_and_other_settings_are_refused(root, tmp_path):
    assert "figures" not in story(root, tmp_path / "out").run("features")
    assert len(list((tmp_path / "out" / "features").glob("*.npz"))) == 8
    assert not (tmp_path / "out" / "svms.npz").exists()
    with pytest.raises(UserError, match=r"other settings \(steps\)"):
        story(root, tmp_path / "out", steps=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="no R-CNN"):
        story(root, tmp_path / "mine")


def test_a_step_has_a_quarter_of_objects(root, tmp_path):
    crops, labels = story(root, tmp_path / "out").step(0)
    assert crops.shape == (128, 3, 32, 32)
    assert (labels > 0).sum() == 32


def test_regions_are_objects_then_proposals_and_difficult_ones_are_neither():
    sample = {
        "image_id": "one",
        "image": np.zeros((40, 40, 3), np.uint8),
        "boxes": np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32),
        "labels": np.array([3, 3]),
        "difficult": np.array([False, True]),
        "proposals": np.array([[0, 0, 10, 12], [20, 20, 40, 38], [30, 0, 40, 9], [5, 5, 5.5, 9]], np.float32),
    }
    found = regions_of(sample, 0)
    assert found.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 12], [20, 20, 40, 38], [30, 0, 40, 9]]
    assert found.overlaps[:, 0] == pytest.approx([1, 10 / 12, 0, 0])
    assert background_of(found, 3, 0.3).tolist() == [False, False, False, True]
    assert background_of(found, 1, 0.3).tolist() == [True] * 4
    near, far = foreground_and_background(found)
    assert (near.tolist(), far.tolist()) == ([True, True, False, False], [False, False, False, True])
    assert len(regions_of(sample, 1).boxes) == 2
    del sample["proposals"]
    with pytest.raises(UserError, match=r"set data\.proposals"):
        regions_of(sample, 0)


def test_pictures_without_objects_or_proposals_go_through(root, tmp_path):
    class Bare:
        def __init__(self, source, rows):
            self.source, self.rows = source, rows

        def __len__(self):
            return len(self.source)

        def __getitem__(self, index):
            sample = self.source[index]
            if index in self.rows:
                for key in ("boxes", "labels", "difficult"):
                    sample[key] = sample[key][:0]
                sample["proposals"] = sample["proposals"][: 0 if index == self.rows[0] else None]
            return sample

    ours = story(root, tmp_path / "out", steps=2)
    ours.train, ours.test = Bare(ours.train, (0, 1)), Bare(ours.test, (0, 1))
    assert 0 <= ours.run()["figures"]["test/map_50"] <= 1


def test_a_picture_that_takes_too_much_memory_is_told_and_the_rest_goes_on(root, tmp_path, monkeypatch, capsys):
    ours = story(root, tmp_path / "out", steps=1)
    ours.run("boxes")
    first, described = ours.test[0], ours.described

    def short_of_memory(image, boxes):
        if len(boxes) and np.array_equal(image, first["image"]):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return described(image, boxes)

    monkeypatch.setattr(ours, "described", short_of_memory)
    assert ours.run()["out_of_memory"] == [first["image_id"]]
    assert capsys.readouterr().err.count(f"image {first['image_id']}: out of memory") == 1
    assert [(tmp_path / "out" / "detections" / f"{row}.npz").is_file() for row in range(4)] == [False, True, True, True]
    monkeypatch.undo()  # with more memory the same call finds the rest
    assert ours.run()["out_of_memory"] == []
    assert len(np.load(tmp_path / "out" / "detections" / "0.npz")["plain_boxes"])


def test_a_class_without_an_object_is_never_detected(root, tmp_path):
    ours = story(root, tmp_path / "out", steps=1)
    ours.train = [ours.train[row] for row in range(2)]
    ours.run()
    there = {label for sample in ours.train for label in sample["labels"].tolist()}
    assert there != set(range(1, 11))
    found = [np.load(file) for file in (tmp_path / "out" / "detections").glob("*.npz")]
    assert {label for one in found for label in one["plain_labels"].tolist()} <= there


@pytest.mark.parametrize("name", ["finetune.pt", "features/3.npz", "svms.npz", "boxes.npz", "results.json"])
def test_a_damaged_file_is_named(root, tmp_path, name):
    story(root, tmp_path / "out", steps=1).run()
    for file in (tmp_path / "out" / "detections").glob("*.npz"):
        file.unlink()
    if name.startswith("features"):
        (tmp_path / "out" / "svms.npz").unlink()
    damaged = tmp_path / "out" / name
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(UserError, match=rf"{name}: not readable .*; delete it and run"):
        story(root, tmp_path / "out", steps=1).run()
    damaged.unlink()
    assert "figures" in story(root, tmp_path / "out", steps=1).run()


def test_two_processes_do_not_share_a_folder(root, tmp_path):
    ours = story(root, tmp_path / "out", steps=1)
    with RunLock(tmp_path / "out"), pytest.raises(UserError, match="another process is at work"):
        ours.run()


@pytest.mark.parametrize("name", ["save_every", "pictures_a_step", "batch", "drop_every", "top_per_class"])
def test_numbers_that_cannot_be_are_refused(name):
    with pytest.raises(ValueError, match=rf"recipe\.{name} is at least 1, got 0"):
        Recipe(**{name: 0})
    with pytest.raises(ValueError, match=r"recipe\.proposals is at least 0"):
        Recipe(proposals=-5)


@pytest.mark.slow
def test_four_images_are_learned_by_heart(tmp_path):
    """Selective search, all stages, and VOC's figure of the images that were trained on."""
    write_voc(tmp_path / "scenes", "2007", {"train": 4, "val": 1, "test": 1}, 0, 128, 4)
    source = VOCDetection(tmp_path / "scenes", "2007", "train", DRAWN_CLASSES)
    build(source, SelectiveSearch(width=0, min_side=8, most=300), tmp_path / "boxes")
    samples = WithProposals(source, open_proposals(tmp_path / "boxes"))
    torch.manual_seed(0)
    backbone = SmallBackbone(width=24, blocks=(0, 1, 1, 0), strides=(16,), max_channels=96)
    net = RegionNet(backbone, 10, size=56, context=4, grid=3, hidden=256, layers=1, dropout=0.2)
    recipe = Recipe(steps=250, drop_every=170, proposals=300, lr_scales={}, decay_scales={})
    optimizer = partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=5e-4)
    assert Story(net, recipe, optimizer, samples, samples, tmp_path / "out", {}).run()["figures"]["test/map_50"] >= 0.95
