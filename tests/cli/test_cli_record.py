"""What a run says of its data and code: to loggers, and in its folder."""

import json

from lightning.pytorch.loggers.logger import DummyLogger
from oracles.toy_training import ToyTask, all_found, toy_trainer

from lightning_cv import __version__
from lightning_cv.cli import run_folder
from lightning_cv.cli.record import RunRecord
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
        tmp_path, callbacks=[RunRecord({})], logger=logger, limit_train_batches=1, limit_val_batches=0
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
