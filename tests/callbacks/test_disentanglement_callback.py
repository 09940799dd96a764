import numpy as np
import pytest
import torch
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import DisentanglementMetrics
from lightning_cv.contracts import Posterior


class Grid:
    """Images whose first two pixels are their factors."""

    factor_names, factor_sizes = ("column", "row"), (6, 6)

    def with_factors(self, factors):
        images = torch.zeros(len(factors), 1, 16, 16)
        images[:, 0, 0, :2] = torch.from_numpy(factors).float()
        return images


class GridData(ToyData):
    def test_set(self):
        return Grid()


def data(kind=GridData):
    return kind([image_batch(0), image_batch(2)])


def figures(folder, callback, verb="test", task=None, **options):
    trainer = toy_trainer(folder, callbacks=[callback], **options)
    arguments = {} if verb == "fit" else {"verbose": False}
    getattr(trainer, verb)(task or ToyTask(terms_of), datamodule=data(), **arguments)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_codes_that_are_the_factors(tmp_path):
    found = figures(tmp_path, DisentanglementMetrics(train=2000, evaluation=500, batch=8))
    assert found["test/mig_dlib"] == found["test/mig_dlib_active"] == pytest.approx(1, abs=0.02)
    assert found["test/mig_dlib_row"] == pytest.approx(1, abs=0.02)
    assert found["test/factor_vae"] == found["test/dci_forest_informativeness"] == 1
    assert found["test/beta_vae"] == 1
    for name in ("modularity", "dci_forest_disentanglement", "dci_forest_completeness"):
        assert found[f"test/{name}"] > 0.95
    assert {"test/sap", "test/explicitness", "test/modularity_active"} <= set(found)


def test_spread_over_seeds_and_names_asked_for(tmp_path):
    found = figures(tmp_path, DisentanglementMetrics(["modularity"], seeds=[0, 1, 2], train=200))
    names = ("modularity", "modularity_active", "modularity_std", "modularity_active_std")
    assert set(found) == {f"test/{name}" for name in names}
    assert 0 < found["test/modularity_std"] < 0.05


def test_a_validation_is_measured_only_where_asked_for(tmp_path):
    assert figures(tmp_path, DisentanglementMetrics(["modularity"], train=100), "validate") == {}
    always = DisentanglementMetrics(["modularity"], when="always", train=100)
    assert "val/modularity" in figures(tmp_path, always, "validate")


@pytest.mark.parametrize(("every", "times"), [(1, 3), (2, 1), (3, 1)])
def test_every_so_many_epochs(tmp_path, every, times):
    calls = []

    class Counted(DisentanglementMetrics):
        def _measure(self, trainer, *rest):
            calls.append(trainer.current_epoch)

    figures(tmp_path, Counted(when="always", every_n_epochs=every), "fit", max_epochs=3)
    assert len(calls) == times
    assert calls[-1] == 3 // every * every - 1


def test_training_is_the_same_with_and_without(tmp_path):
    weights = []
    for callbacks in ([], [DisentanglementMetrics(when="always", train=100, evaluation=100, batch=2)]):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002  # what scikit-learn would draw from if it were let
        task = ToyTask(terms_of)
        toy_trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(task, datamodule=data())
        weights.append((task.net.weight.item(), np.random.random(), torch.rand(()).item()))  # noqa: NPY002
    assert weights[0] == weights[1]


def test_a_trial_looks_at_a_few_hundred_images(tmp_path):
    task, asked = ToyTask(terms_of), []
    encode = task.net.encode
    task.net.encode = lambda images: asked.append(len(images)) or encode(images)
    figures(tmp_path, DisentanglementMetrics(train=10**9), task=task, limit_test_batches=1)
    assert sum(asked) == 36  # every combination once: a billion samples would not have been drawn


def test_data_without_factors_and_nets_without_codes_are_told_so(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[DisentanglementMetrics()])
    with pytest.raises(ValueError, match=r"needs images whose factors are known.*; ToyData has none"):
        trainer.test(ToyTask(terms_of), datamodule=data(ToyData), verbose=False)
    task = ToyTask(terms_of)
    task.net = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="DisentanglementMetrics needs a net that encodes images"):
        trainer.test(task, datamodule=data(), verbose=False)


@pytest.mark.parametrize("when", ["test", "always"])
def test_data_without_factors_is_refused_before_the_training(tmp_path, when):
    task = ToyTask(terms_of)
    task.training_step = lambda *_: pytest.fail("trained")
    trainer = toy_trainer(tmp_path, callbacks=[DisentanglementMetrics(when=when)])
    with pytest.raises(ValueError, match="needs images whose factors are known"):
        trainer.fit(task, datamodule=data(ToyData))


def test_data_that_is_not_measured_needs_no_factors(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[DisentanglementMetrics()])
    task, plain = ToyTask(terms_of), data(ToyData)
    trainer.validate(task, datamodule=plain, verbose=False)
    trainer = toy_trainer(tmp_path, callbacks=[DisentanglementMetrics()])
    trainer.fit(task, plain.train_dataloader())  # the test may well be of a data module
    assert trainer.global_step == 2


def test_a_deterministic_net_has_no_sampled_codes(tmp_path):
    task = ToyTask(terms_of)
    task.net.encode = lambda images: Posterior(images.flatten(1)[:, :2], None)
    assert figures(tmp_path, DisentanglementMetrics(["mig_dlib"], train=500), task=task)["test/mig_dlib"] > 0.95
    with pytest.raises(ValueError, match="need an encoder that gives a variance"):
        figures(tmp_path, DisentanglementMetrics(["mig_chen"], train=500), task=task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["mig"]}, r"metrics are some of beta_vae, .*; got \['mig'\]"),
        ({"metrics": []}, "metrics are some of"),
        ({"seeds": []}, "seeds must be different numbers"),
        ({"seeds": [1, 1]}, "seeds must be different numbers"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1, got 0"),
        ({"train": 10}, "train must be at least 100, got 10"),
        ({"batch": 1}, "batch must be at least 2, got 1"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=f"DisentanglementMetrics: {message}"):
        DisentanglementMetrics(**options)
