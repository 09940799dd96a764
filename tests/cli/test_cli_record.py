"""What a run says of its data and code: to loggers, and in its folder."""

import json

from lightning.pytorch.loggers.logger import DummyLogger
from oracles.toy_training import ToyTask, all_found, toy_trainer

from lightning_cv import __version__
from lightning_cv.cli import run_folder
from lightning_cv.cli.record import RESULTS, RunRecord, WallClock, end
from lightning_cv.datamodules import DigitsDataModule


class Told(DummyLogger):
    def __init__(self):
        super().__init__()
        self.facts = {}

    def log_hyperparams(self, settings):
        self.facts |= settings


def test_the_data_and_the_code_are_told_and_kept(tmp_path):
    run_folder.write_json(tmp_path / run_folder.ENVIRONMENT, {"seed": 3})
    data, logger = DigitsDataModule(size=8), Told()
    trainer = toy_trainer(
        tmp_path,
        callbacks=[RunRecord({}, WallClock(tmp_path))],
        logger=logger,
        limit_train_batches=1,
        limit_val_batches=0,
    )
    trainer.fit(ToyTask(all_found), datamodule=data)
    code, parameters = logger.facts.pop("code"), logger.facts.pop("parameters")
    assert code == {"version": __version__, "commit": run_folder.commit()}
    assert logger.facts == {
        "checksum_train": data.checksum("train"),
        "checksum_val": data.checksum("val"),
        "classes": list("0123456789"),
        "class_ids": list(range(10)),
    }
    assert json.loads((tmp_path / run_folder.ENVIRONMENT).read_text()) == {
        "seed": 3,
        "data": logger.facts,
        "parameters": parameters,
    }


def test_the_seconds_of_a_run_count_all_its_processes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("lightning_cv.cli.record.time.perf_counter", lambda: now[0])
    first = WallClock(tmp_path)
    now[0] += 7
    first.keep()
    now[0] += 2  # lost: the process is killed
    second = WallClock(tmp_path)
    assert not (tmp_path / RESULTS).exists(), "the run is not done"
    now[0] += 4
    second.keep()
    now[0] += 1
    end(tmp_path, {"val/loss": 2.0}, second.seconds())
    assert json.loads((tmp_path / RESULTS).read_text()) == {"val/loss": 2.0, "seconds": 12.0}
    third = WallClock(tmp_path)  # one that extends the run
    now[0] += 3
    third.keep()
    assert WallClock(tmp_path).seconds() == 15.0
    end(tmp_path, {}, third.seconds())
    assert json.loads((tmp_path / RESULTS).read_text()) == {"val/loss": 2.0, "seconds": 15.0}
    assert not (tmp_path / run_folder.SECONDS).exists()
