import pytest
import torch
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import GradientNorm


class Seen(torch.nn.Module):
    """Stands in for the task: keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1), torch.nn.ReLU())
        self.logged, self._current_fx_name = {}, "on_before_optimizer_step"

    def log(self, name, value, *, prog_bar, on_step, on_epoch):
        self.logged[name] = float(value)


def test_the_norms_by_hand():
    task, trainer = Seen(), type("Trainer", (), {"global_step": 9, "log_every_n_steps": 10, "_results": None})()
    first, second = task.net[0], task.net[1]
    first.weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    second.bias.grad = torch.tensor([12.0])
    GradientNorm(per_child=True).on_before_optimizer_step(trainer, task, None)
    assert task.logged == {
        "train/gradient_norm": pytest.approx(13),
        "train/gradient_norm/0": pytest.approx(5),
        "train/gradient_norm/1": pytest.approx(12),
    }
    trainer.global_step, task.logged = 10, {}
    GradientNorm().on_before_optimizer_step(trainer, task, None)
    assert task.logged == {}


def test_it_reaches_the_loggers(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[GradientNorm()], log_every_n_steps=1)
    trainer.fit(ToyTask(terms_of), datamodule=ToyData([image_batch(0)]))
    assert trainer.callback_metrics["train/gradient_norm"].item() > 0


def test_a_trainer_that_never_logs(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[GradientNorm()], log_every_n_steps=0)
    trainer.fit(ToyTask(terms_of), datamodule=ToyData([image_batch(0)]))
    assert "train/gradient_norm" not in trainer.callback_metrics
