import csv

import pytest
import torch
from lightning import LightningModule
from oracles.toy_training import ToyData, image_batch, toy_trainer

from lightning_cv.scalars import log_of_step
from lightning_cv.tracking import MetricsCSV


class Logs(LightningModule):
    """One weight whose step logs a number of its own; `store` says how."""

    def __init__(self, store):
        super().__init__()
        self.weight, self.store, self.long_way = torch.nn.Parameter(torch.ones(1)), store, 0

    def log(self, *args, **kwargs):
        self.long_way += 1
        super().log(*args, **kwargs)

    def training_step(self, batch, batch_idx):
        loss = self.weight.sum() * (self.global_step + 1)
        if batch_idx % 3 != 2 or self.current_epoch == 1:
            self.store(self, "train/a", loss.detach() * 2)
        self.store(self, "train/b", torch.tensor(float(batch_idx)))
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.store(self, "train/norm", self.weight.grad.norm())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def as_lightning_does(module, name, value):
    module.log(name, value, on_step=True, on_epoch=False)


def as_we_do(module, name, value):
    log_of_step(module.trainer, module, name, value)


def run(folder, store, every):
    """What three epochs of four batches leave in the log and for callbacks, and how often `log` itself was called."""
    module = Logs(store)
    trainer = toy_trainer(folder, max_epochs=3, log_every_n_steps=every, logger=MetricsCSV(str(folder)))
    trainer.fit(module, datamodule=ToyData([image_batch(2 * n) for n in range(4)]))
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, {name: value.item() for name, value in trainer.callback_metrics.items()}, module.long_way


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*validation_step")
@pytest.mark.parametrize("every", [1, 3])
def test_rows_and_figures_are_those_of_lightnings_log(tmp_path, every):
    expected, ours = run(tmp_path / "a", as_lightning_does, every), run(tmp_path / "b", as_we_do, every)
    assert ours[:2] == expected[:2]
    assert len(ours[0]) == 12 // every
    assert {"train/a", "train/b", "train/norm"} < set(ours[0][0])
    assert ours[2] == 9  # three names, in the first batch of each of three epochs
    assert expected[2] == 34  # 12 of "b", 12 of "norm", 10 of "a"
