"""Comparisons: what a file must hold, and a whole one of three small detectors that is stopped and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from forked import run

from lightning_cv.cli import compare
from lightning_cv.cli.compare import main
from lightning_cv.cli.compare_plan import data_module, read_plan
from lightning_cv.errors import UserError
from lightning_cv.locks import RunLock

TIMELINE = Path(__file__).parents[2] / "experiments/detection/two_stage_timeline.yaml"


def written(folder: Path, **changes: object) -> Path:
    place = folder / "plan.yaml"
    content = {"data": {"class_path": "X"}, "proposals": {}, "systems": {"A": {"experiment": "detection/ssd_drawn"}}}
    place.write_text(yaml.safe_dump(content | changes))
    return place


def test_the_shipped_comparison_is_of_the_three_rcnns() -> None:
    plan = read_plan(TIMELINE)
    assert [system.name for system in plan.systems] == ["R-CNN", "Fast R-CNN", "Faster R-CNN"]
    assert [system.needs_proposals for system in plan.systems] == [True, True, False]
    assert [system.experiment.stem for system in plan.systems] == ["rcnn_drawn", "fast_rcnn_drawn", "faster_rcnn_drawn"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"systems": {}}, "systems is empty"),
        ({"systems": []}, "systems must be there, as a dict"),
        ({"more": 1}, "unknown key 'more'"),
        ({"systems": {"A": 3}}, "systems.A must be a mapping"),
        ({"systems": {"A": {"settings": {}}}}, "systems.A: experiment must be there"),
        ({"systems": {"A": {"experiment": "detection/ssd_dran"}}}, "did you mean detection/ssd_drawn"),
        ({"systems": {"A": {"experiment": "detection/ssd_drawn", "set": {}}}}, "systems.A: unknown key 'set'"),
        ({"systems": {"../A": {"experiment": "detection/ssd_drawn"}}}, r"systems\.\.\./A: the name of a system is"),
        ({"systems": {1: {"experiment": "detection/ssd_drawn"}}}, r"systems\.1: the name of a system is"),
        (
            {"systems": {"A b": {"experiment": "detection/ssd_drawn"}, "a_b": {"experiment": "detection/ssd_drawn"}}},
            "systems.a_b: would share a folder with 'A b'",
        ),
        ({"systems": {"A": {"experiment": "rcnn/rcnn_drawn"}}}, "needs_proposals must be true"),
    ],
)
def test_a_file_that_is_no_comparison(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_plan(written(tmp_path, **changes))


def test_a_wrong_key_of_the_data_is_told_with_its_line(tmp_path: Path) -> None:
    data = {
        "class_path": "lightning_cv.datamodules.DrawnDetectionDataModule",
        "init_args": {"root": str(tmp_path), "trainn": 4},
    }
    with pytest.raises(UserError, match=r"plan\.yaml, line 5: no key data\.trainn; did you mean data\.train\?"):
        data_module(read_plan(written(tmp_path, data=data)))


def test_the_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/compare.yaml").write_text("data: {}")
    with pytest.raises(UserError, match="another comparison"):
        main([str(written(tmp_path)), "--out", str(tmp_path / "out")])


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out/a").mkdir(parents=True)
    with pytest.raises(UserError, match="holds files that are no comparison"):
        main([str(written(tmp_path)), "--out", str(tmp_path / "out")])


def test_costs_of_another_device_are_not_mixed_in(tmp_path: Path) -> None:
    place = written(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/compare.yaml").write_text(place.read_text())
    (tmp_path / "out/device.txt").write_text("another GPU\n")
    with pytest.raises(UserError, match="of another device, another GPU; this is"):
        main([str(place), "--out", str(tmp_path / "out")])


class Pictures:
    """A data module of as many small pictures of noise as asked for, in each split."""

    def __init__(self, count: int) -> None:
        self.count = count

    def source(self, split: str) -> list[dict[str, object]]:
        noise = np.random.default_rng(len(split)).integers(0, 256, (self.count, 8, 8, 3), dtype=np.uint8)
        return [{"image_id": f"{split}{row}", "image": image} for row, image in enumerate(noise)]


class Search:
    """Finds one box, after a tenth of a second of a clock of its own; is stopped at one of the calls."""

    settings: dict[str, object] = {}  # noqa: RUF012  # never changed

    def __init__(self, stop_at: int, clock: list[float]) -> None:
        self.calls, self.stop_at, self.clock = 0, stop_at, clock

    def __call__(self, image: object) -> object:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.clock[0] += 0.1
        return np.array([[0, 0, 4, 4]], np.float32)


def test_a_search_that_was_stopped_goes_on_and_keeps_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("lightning_cv.cli.compare.time.perf_counter", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt):
        compare._searched(Search(7, clock), Pictures(5), tmp_path)  # type: ignore[arg-type]
    kept = tmp_path / "proposals.jsonl"
    kept.write_text(kept.read_text()[:-5])  # as if killed within the last line
    again = Search(-1, clock)
    found = compare._searched(again, Pictures(5), tmp_path)  # type: ignore[arg-type]
    assert again.calls == 4, "the picture of the half line has boxes, but no seconds"
    assert found["train_seconds"] == pytest.approx(0.5)
    assert found["picture_seconds"] == pytest.approx(0.1)
    assert len(json.loads((tmp_path / "proposals/index.json").read_text())) == 10
    assert compare._searched(Search(0, clock), Pictures(5), tmp_path) == found  # type: ignore[arg-type]


def test_a_folder_of_proposals_at_which_another_works_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proposals").mkdir()
    with RunLock(tmp_path / "proposals"), pytest.raises(UserError, match="another process is at work"):
        compare._searched(Search(-1, [0.0]), Pictures(1), tmp_path)  # type: ignore[arg-type]


def test_proposals_of_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"proposals: .*'wide'"):
        main([str(written(tmp_path, proposals={"wide": 3})), "--out", str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_timeline_in_small_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = yaml.safe_load(TIMELINE.read_text())
    plan["data"]["init_args"] |= {"root": str(tmp_path / "data"), "train": 8, "val": 2, "test": 4, "size": 64}
    plan["proposals"]["most"] = 20
    plan["systems"]["R-CNN"]["settings"] |= {"recipe.steps": 2, "recipe.proposals": 20}
    for name in ("Fast R-CNN", "Faster R-CNN"):
        plan["systems"][name]["settings"] |= {"trainer.max_epochs": 1, "trainer.enable_progress_bar": False}
    place, out = tmp_path / "plan.yaml", tmp_path / "out"
    place.write_text(yaml.safe_dump(plan, sort_keys=False))
    assert run(["compare", str(place), "--out", str(out)], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    costs = {row.pop("system"): row for row in json.loads((out / "results.json").read_text())}
    assert list(costs) == list(plan["systems"])
    assert [cost["train_search_seconds"] > 0 for cost in costs.values()] == [True, True, False]
    assert all(cost["picture_proposal_seconds"] > 0 for cost in costs.values()), (
        "those of a net of its own are timed, too"
    )
    assert [cost["bytes_on_disk"] > 0 for cost in costs.values()] == [True, True, False]
    assert all(cost["train_seconds"] > 0 and cost["picture_seconds"] > 0 for cost in costs.values())
    assert (out / "table.md").read_text().count("\n") == 7
    assert len({cost.pop("device") for cost in costs.values()}) == 1
    assert (out / "figure.png").stat().st_size > 5000
    kept = (out / "fast_r-cnn/cost.json").read_bytes()
    (out / "faster_r-cnn/cost.json").unlink()  # as if stopped before the last test
    assert run(["compare", str(place), "--out", str(out)], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    again = {row.pop("system"): row for row in json.loads((out / "results.json").read_text())}
    assert again["R-CNN"].pop("device")
    assert again["R-CNN"] == costs["R-CNN"]
    assert (out / "fast_r-cnn/cost.json").read_bytes() == kept
    assert again["Faster R-CNN"]["map_50"] == costs["Faster R-CNN"]["map_50"]


@pytest.fixture
def killed_when(tmp_path: Path) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Calls the comparison of `plan.yaml`, and kills it as soon as something is so."""
    started = []

    def call(until: Callable[[], bool]) -> None:
        command = [sys.executable, "-m", "lightning_cv", "compare", "plan.yaml", "--out", "out"]
        environment = {name: value for name, value in os.environ.items() if "SERVICE" not in name}  # W&B's of its own
        environment["OMP_NUM_THREADS"] = "1"
        with (tmp_path / "output.txt").open("a") as output:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, env=environment)
        started.append(process)
        while not until():
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    yield call
    for process in started:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_calls_that_are_killed_before_a_checkpoint_go_on(
    tmp_path: Path, killed_when: Callable[[Callable[[], bool]], None]
) -> None:
    plan = yaml.safe_load(TIMELINE.read_text())
    plan["data"]["init_args"] |= {"root": str(tmp_path / "data"), "train": 40, "val": 2, "test": 4, "size": 64}
    plan["proposals"]["most"] = 20
    plan["systems"] = {"Fast R-CNN": plan["systems"]["Fast R-CNN"]}
    short = {"trainer.max_epochs": 2, "trainer.enable_progress_bar": False, "data.batch_size": 2}
    plan["systems"]["Fast R-CNN"]["settings"] |= short
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    out, run_folder = tmp_path / "out", tmp_path / "out/fast_r-cnn"
    lines, checkpoint = out / "proposals.jsonl", run_folder / "checkpoints/last.ckpt"
    killed_when(lambda: lines.is_file() and lines.read_text().count("\n") >= 3)
    searched = lines.read_text()
    killed_when(run_folder.is_dir)
    assert lines.read_text().startswith(searched)
    assert not checkpoint.exists()
    killed_when(checkpoint.is_file)
    kept = json.loads((run_folder / "seconds.json").read_text())["seconds"]
    assert run(["compare", "plan.yaml", "--out", "out"], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    (cost,) = json.loads((out / "results.json").read_text())
    assert cost["train_seconds"] > kept
    assert cost["train_search_seconds"] == pytest.approx(
        sum(row["seconds"] for row in map(json.loads, lines.read_text().splitlines()) if row["split"] == "train")
    )
