"""How many checkpoints KeepLast and KeepBest keep, and which."""

import pytest
from lightning import Callback
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import KeepBest, KeepLast


class Scores(Callback):
    """Logs a figure for each validation."""

    def __init__(self, values):
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/x", self.values.pop(0))


def test_the_last_and_the_best_stay_and_know_each_other(tmp_path):
    keep = [KeepLast(2, dirpath=str(tmp_path)), KeepBest("val/x", count=2, dirpath=str(tmp_path))]
    keep.append(KeepBest("val/x", mode="min", count=1, dirpath=str(tmp_path / "worst")))
    trainer = toy_trainer(
        tmp_path, callbacks=[Scores([1.0, 5.0, 3.0, 4.0, 2.0]), *keep], max_epochs=5, enable_checkpointing=True
    )
    trainer.fit(ToyTask(terms_of), datamodule=ToyData([image_batch(0)]))
    assert sorted(path.stem for path in tmp_path.glob("*.ckpt")) == [
        "newest-step=4", "newest-step=5", "top-step=2", "top-step=4",
    ]  # fmt: skip
    assert [path.stem for path in (tmp_path / "worst").glob("*.ckpt")] == ["top-step=1"]


def test_none_is_refused():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        KeepLast(0)
