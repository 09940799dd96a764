import sys

import pytest
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import ProgressLines

BAR = {"enable_progress_bar": True}


def _fit(folder, seconds, **options):
    data = ToyData([image_batch(0, images=4), image_batch(4, images=4)])
    trainer = toy_trainer(folder, callbacks=[ProgressLines(seconds)], **({"max_epochs": 2} | BAR | options))
    trainer.fit(ToyTask(terms_of), datamodule=data)
    return trainer, data


def test_a_line_an_epoch_with_loss_and_time_left(tmp_path, capsys):
    _fit(tmp_path, seconds=1e9)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "train/loss 1" in lines[0]
    assert "0:00:00 to go" in lines[1]


def test_lines_within_a_long_epoch_and_a_long_test(tmp_path, capsys):
    trainer, data = _fit(tmp_path, seconds=0.0, max_epochs=1)
    trainer.test(ToyTask(terms_of), datamodule=data, verbose=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", 0:")[0] for line in lines] == [
        "epoch 1/1, batch 1 of 2",
        "epoch 1/1, batch 2 of 2",
        "epoch 1/1",
        "test, batch 1 of 2",
        "test, batch 2 of 2",
    ]


@pytest.mark.parametrize("silent", ["terminal", "no bar"])
def test_silent_beside_a_bar_and_where_bars_are_off(tmp_path, capsys, monkeypatch, silent):
    if silent == "terminal":
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _fit(tmp_path, seconds=0.0, enable_progress_bar=silent == "terminal")
    assert "epoch 1/2," not in capsys.readouterr().err
