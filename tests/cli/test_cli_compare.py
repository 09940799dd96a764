"""Comparisons: what a file must hold, and a whole one of three small detectors that is stopped and goes on."""

import json
from pathlib import Path

import pytest
import yaml
from forked import run

from lightning_cv.cli.compare import main, read_plan
from lightning_cv.errors import UserError

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
    ],
)
def test_a_file_that_is_no_comparison(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_plan(written(tmp_path, **changes))


def test_the_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/compare.yaml").write_text("data: {}")
    with pytest.raises(UserError, match="another comparison"):
        main([str(written(tmp_path)), "--out", str(tmp_path / "out")])


def test_proposals_of_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"proposals: .*'wide'"):
        main([str(written(tmp_path, proposals={"wide": 3})), "--out", str(tmp_path / "out")])


@pytest.mark.slow
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
    assert [cost["picture_search_seconds"] > 0 for cost in costs.values()] == [True, True, False]
    assert [cost["bytes_on_disk"] > 0 for cost in costs.values()] == [True, True, False]
    assert all(cost["train_seconds"] > 0 and cost["picture_seconds"] > 0 for cost in costs.values())
    assert (out / "table.md").read_text().count("\n") == 5
    assert (out / "figure.png").stat().st_size > 5000
    kept = (out / "fast_r-cnn/cost.json").read_bytes()
    (out / "faster_r-cnn/cost.json").unlink()  # as if stopped before the last test
    assert run(["compare", str(place), "--out", str(out)], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    again = {row.pop("system"): row for row in json.loads((out / "results.json").read_text())}
    assert again["R-CNN"] == costs["R-CNN"]
    assert (out / "fast_r-cnn/cost.json").read_bytes() == kept
    assert again["Faster R-CNN"]["map_50"] == costs["Faster R-CNN"]["map_50"]
