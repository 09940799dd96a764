"""R-CNN's stages on a few drawn scenes: what they sample, that they go on, and what they refuse."""

import json

import numpy as np
import pytest
import torch

from lightning_cv.cli import main
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.proposals import WithProposals, open_proposals
from lightning_cv.datasets.voc import VOCDetection
from lightning_cv.datasets.writers import write_voc
from lightning_cv.errors import UserError
from lightning_cv.models import SmallBackbone
from lightning_cv.models.detection.rcnn import RegionNet
from lightning_cv.tools.proposals import build
from lightning_cv.tools.rcnn import Story
from lightning_cv.tools.rcnn_regions import Recipe, background_of, regions_of


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
    numbers = Recipe(steps=steps, pictures_a_step=4, **recipe)
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
            raise torch.OutOfMemoryError
        return described(image, boxes)

    monkeypatch.setattr(ours, "described", short_of_memory)
    assert "figures" in ours.run()
    assert f"image {first['image_id']}: out of memory" in capsys.readouterr().err
    counts = [len(np.load(tmp_path / "out" / "detections" / f"{row}.npz")["plain_boxes"]) for row in range(4)]
    assert counts[0] == 0 < min(counts[1:])


def test_a_class_without_an_object_is_never_detected(root, tmp_path):
    ours = story(root, tmp_path / "out", steps=1)
    ours.train = [ours.train[row] for row in range(2)]
    ours.run()
    there = {label for sample in ours.train for label in sample["labels"].tolist()}
    assert there != set(range(1, 11))
    found = [np.load(file) for file in (tmp_path / "out" / "detections").glob("*.npz")]
    assert {label for one in found for label in one["plain_labels"].tolist()} <= there


def test_the_verb_runs_its_experiment(root, tmp_path, capsys):
    options = [
        *("--config", "rcnn/rcnn_drawn", "--data.root", str(tmp_path), "--data.train", "4", "--data.test", "2"),
        *("--data.val", "1", "--data.size", "64", "--recipe.steps", "1", "--recipe.batch", "64", "--quiet"),
    ]
    assert main(["rcnn", *options]) == 2
    assert "no --out" in capsys.readouterr().err
    assert main(["rcnn", *options, "--out", str(tmp_path / "out")]) == 2
    assert "set data.proposals" in capsys.readouterr().err
    (scenes,) = (tmp_path / "drawn").iterdir()
    for split in ("train", "test"):
        found = ["--split", split, "--width", "0", "--min-side", "8", "--most", "30", "--quiet", "--no-recall"]
        assert main(["proposals", "build", str(scenes), *found, "--out", str(tmp_path / "boxes")]) == 0
    options += ["--data.proposals", str(tmp_path / "boxes"), "--out", str(tmp_path / "run")]
    capsys.readouterr()
    assert main(["rcnn", *options]) == 0
    said = capsys.readouterr().out
    assert "aim 0.5" in said
    assert "test/map_50" in json.loads(said[: said.rindex("}") + 1])["figures"]
