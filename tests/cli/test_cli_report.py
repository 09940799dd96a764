"""Reading run folders in every state that a sweep leaves behind."""

import json

import pytest
from PIL import Image

from lightning_cv.cli import main
from lightning_cv.cli.run_folder import RunLock
from lightning_cv.cli.sweep_runs import read_runs
from lightning_cv.tools.sweep_table import Monitor

CONFIG = """
seed_everything: {seed}
trainer:
  max_epochs: 3
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: last, monitor: null, mode: min}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: best, monitor: val/miou, mode: max}}
model: {{class_path: m.Seg, init_args: {{lr: {lr}}}}}
data: {{class_path: d.Drawn, init_args: {{root: /data}}}}
"""


@pytest.fixture
def make(tmp_path):
    def run(name, lr=0.1, seed=0, miou=0.5, results=True):
        folder = tmp_path / "runs" / name
        (folder / "previews").mkdir(parents=True)
        (folder / "config.yaml").write_text(CONFIG.format(lr=lr, seed=seed))
        rows = ["step,epoch,train/loss,val/miou", "10,0,2.5,", f"10,0,,{miou - 0.2}", "20,1,1.5,", f"20,1,,{miou}"]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        if results:
            (folder / "results.json").write_text(json.dumps({"val/miou": miou, "seconds": 3.0, "note": "text"}))
        return folder

    return run


def test_a_whole_run_is_read_with_its_last_test_and_its_last_pictures(make):
    folder = make("a")
    for number, miou in ((1, 0.1), (2, 0.2), (10, 0.3)):
        (folder / f"test-{number}").mkdir()
        (folder / f"test-{number}" / "results.json").write_text(json.dumps({"test/miou": miou, "seconds": 9}))
        (folder / f"test-{number}" / "config.yaml").write_text(CONFIG.format(lr=1, seed=1))
    (folder / "env.json").write_text(json.dumps({"parameters": 1234, "seed": 5}))
    for epoch in (2, 10, 1000):
        Image.new("RGB", (4, 4)).save(folder / "previews" / f"segmentation-epoch{epoch:03d}.png")
    (run,) = read_runs([folder.parent])
    assert (run.name, run.state, run.notes) == ("a", "finished", ())
    assert run.settings["model.lr"] == 0.1
    assert run.figures == {"train/loss": 1.5, "val/miou": 0.5, "seconds": 3.0, "test/miou": 0.3, "parameters": 1234.0}
    assert run.curves["val/miou"] == [(10, 0.3), (20, 0.5)]
    assert run.previews["segmentation"].name == "segmentation-epoch1000.png"
    assert run.monitor == Monitor("val/miou", "max")


def test_every_state_is_told(make):
    make("finished")
    make("stopped", results=False)
    (make("failed", results=False) / "not_a_number.json").write_text("{}")
    broken = make("broken")
    (broken / "results.json").write_text('{"val/miou": 0.')
    (make("empty") / "metrics.csv").unlink()
    cut = make("cut")
    (cut / "metrics.csv").write_text((cut / "metrics.csv").read_text() + "30,2,,0.")
    (make("yaml") / "config.yaml").write_text("model: [")
    with RunLock(make("running", results=False)):
        runs = {run.name: run for run in read_runs([broken.parent])}
    states = {name: run.state for name, run in runs.items()}
    assert states == {
        "finished": "finished", "stopped": "stopped", "failed": "failed", "broken": "stopped", "empty": "finished",
        "cut": "finished", "yaml": "finished", "running": "running",
    }  # fmt: skip
    assert "results.json is not readable" in runs["broken"].notes[0]
    assert runs["empty"].notes == ("no metrics.csv",)
    assert runs["cut"].curves["val/miou"][:2] == [(10, 0.3), (20, 0.5)]
    assert "not valid YAML" in runs["yaml"].notes[0]


def test_pictures_that_are_half_written_or_broken_are_no_reason_to_fail(make, tmp_path, capsys):
    folder = make("a")
    Image.new("RGB", (40, 40)).save(folder / "previews" / "segmentation-epoch001.png")
    (folder / "previews" / ".segmentation-epoch002.part.png").write_bytes(b"half")
    whole = (folder / "previews" / "segmentation-epoch001.png").read_bytes()
    (folder / "previews" / "traversal-epoch001.png").write_bytes(whole[:60])
    (run,) = read_runs([folder])
    assert [path.name for path in run.previews.values()] == ["segmentation-epoch001.png"]
    assert "traversal-epoch001.png is not readable" in run.notes[0]
    assert main(["report", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "traversal-epoch001.png is not readable" in capsys.readouterr().err


def test_runs_of_one_name_in_two_places_are_told_apart(make, tmp_path):
    make("x/one")
    make("y/one")
    assert [run.name for run in read_runs([tmp_path])] == ["x/one", "y/one"]
    assert [run.name for run in read_runs([tmp_path / "runs/x", tmp_path / "runs/x/one"])] == ["one"]


def test_the_verb_writes_a_page_and_says_which_runs_are_not_whole(make, tmp_path, capsys):
    for number, lr in enumerate((0.1, 0.2, 0.4)):
        make(f"r{number}", lr=lr, miou=0.5 + lr)
    assert main(["report", str(tmp_path / "runs")]) == 0
    assert "3 of 3 runs are whole" in capsys.readouterr().out
    make("late", results=False)
    out = tmp_path / "page"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out), "--title", "mine"]) == 1
    told = capsys.readouterr()
    assert "late: stopped" in told.err
    assert "3 of 4 runs are whole" in told.out
    page = (out / "report.html").read_text()
    assert "<h1>mine</h1>" in page
    assert "best val/miou: lr 0.4" in page
    assert (out / "against_lr.png").is_file()


def test_slips_are_told_with_status_2(make, tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
    make("a")
    assert main(["report", str(tmp_path), "--metric", "val/map"]) == 2
    assert "no run has such a figure; there are val/miou" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    assert "choose another with --out" in capsys.readouterr().err
