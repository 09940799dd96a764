"""Which parameters get which learning rate and decay."""

import re
from functools import partial

import pytest
import torch
from oracles.toy_training import toy_trainer
from torch import nn

from lightning_cv.tasks.base import Task

SGD = partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)


class Plain(Task):
    task_name = "plain"


def net():
    return nn.ModuleDict(
        {"backbone": nn.Conv2d(1, 2, 1), "head": nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1))}
    )


def rates(optimizer=SGD, **scales):
    """Learning rate and decay of each parameter of the net by its name."""
    task = Plain(net(), optimizer, **scales)
    chosen = task.configure_optimizers()
    names = {id(parameter): name.removeprefix("net.") for name, parameter in task.named_parameters()}
    found = {
        names[id(parameter)]: (round(group["lr"], 6), group["weight_decay"])
        for group in chosen.param_groups
        for parameter in group["params"]
    }
    assert len(found) == len(names)
    return found


def test_without_scales_all_parameters_share_one_group():
    assert set(rates().values()) == {(0.1, 0.5)}


def test_the_longest_start_counts_and_patterns_come_on_top():
    found = rates(
        lr_scales={"net": 10.0, "net.backbone": 0.5, "*.bias": 2.0},
        decay_scales={"*.bias": 0.0, "net.head.1": 0.1},
    )
    assert found == {
        "backbone.weight": (0.05, 0.5),
        "backbone.bias": (0.1, 0.0),
        "head.0.weight": (1.0, 0.5),
        "head.0.bias": (2.0, 0.0),
        "head.1.weight": (1.0, pytest.approx(0.05)),
        "head.1.bias": (2.0, 0.0),
    }


@pytest.mark.parametrize("which", ["lr_scales", "decay_scales"])
@pytest.mark.parametrize("key", ["net.back_bone", "*.gamma"])
def test_a_key_that_names_nothing_is_told(which, key):
    with pytest.raises(ValueError, match=re.escape(f"model.{which} names no trained parameter: {key}")):
        rates(**{which: {key: 2.0}})


def test_frozen_parameters_are_in_no_group_and_no_key_may_name_them():
    frozen = net()
    frozen["backbone"].requires_grad_(False)
    task = Plain(frozen, partial(torch.optim.SGD, lr=0.1), lr_scales={"net.backbone": 0.1})
    with pytest.raises(ValueError, match=r"net\.backbone"):
        task.configure_optimizers()


def test_an_optimizer_without_decay_cannot_scale_it():
    with pytest.raises(ValueError, match="Rprop has no weight decay to scale"):
        rates(partial(torch.optim.Rprop, lr=0.1), decay_scales={"*.bias": 0.0})


@pytest.mark.parametrize("chosen", [None, "simple"])
def test_only_the_profiler_that_nobody_chose_is_replaced(tmp_path, chosen):
    trainer = toy_trainer(tmp_path, profiler=chosen)
    task = Plain(net(), SGD)
    before, task.trainer = trainer.profiler, trainer
    task.setup("fit")
    assert (trainer.profiler is before) == (chosen == "simple")
    with trainer.profiler.profile("something"):
        assert type(trainer.profiler).__name__ == ("Unmarked" if chosen is None else "SimpleProfiler")


def test_what_lightning_says_about_hooks_is_set_and_read_as_before():
    task = Plain(net(), SGD)
    task._current_fx_name = "training_step"
    assert task._current_fx_name == "training_step"
    task.extra = nn.Linear(1, 1)
    assert "extra.weight" in dict(task.named_parameters())
