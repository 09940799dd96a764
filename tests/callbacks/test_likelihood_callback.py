import math

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import LikelihoodMetrics, ReconstructionPreview
from lightning_cv.errors import TrainingWarning


def figures(folder, callback, answer, verb="validate"):
    trainer = toy_trainer(folder, callbacks=[callback])
    data = ToyData([image_batch(0, images=4), image_batch(4, images=1)])
    getattr(trainer, verb)(ToyTask(answer), datamodule=data, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def with_more(batch):
    """Two latents with the means 0 and 0 to 4 and the variances 1 and 4, and a bound of one more draw kind."""
    outputs = terms_of(batch)
    mean = outputs["terms"]["mean"]
    outputs["terms"]["log_var"] = torch.tensor([0.0, math.log(4.0)]).expand_as(mean)
    outputs["terms"]["iwae_64"] = -mean[:, 1]
    return outputs


def test_the_aggregate_posterior_and_further_terms_by_hand(tmp_path):
    found = figures(tmp_path, LikelihoodMetrics(per_latent=True), with_more, "test")
    assert found["test/iwae_64"] == pytest.approx(-2.0)
    assert found["test/bits_per_dim"] == pytest.approx(6 / math.log(2) / 256)
    # the second latent: means 0 to 4 have mean 2 and variance 2, to which the posteriors add 4
    assert (found["test/mean_0"], found["test/std_0"], found["test/kl_0"]) == (0.0, 1.0, 0.0)
    assert found["test/mean_1"] == pytest.approx(2.0)
    assert found["test/std_1"] == pytest.approx(6**0.5)
    assert found["test/aggregate_kl"] == pytest.approx(0.5 * (2.0**2 + 6 - 1 - math.log(6)))
    assert found["test/kl_1"] == found["test/kl"] == pytest.approx(2.0)


def silent(batch):
    outputs = terms_of(batch)
    outputs["terms"] = {name: torch.zeros_like(values) for name, values in outputs["terms"].items()}
    return outputs


ENDS = {
    "epochs": {"max_epochs": 2},
    "steps": {"max_epochs": -1, "max_steps": 4},
    "validated-earlier": {"max_epochs": 3, "check_val_every_n_epoch": 2},
    "stopped": {"max_epochs": 9, "callbacks": [EarlyStopping("train/loss", patience=0, check_on_train_epoch_end=True)]},
}


@pytest.mark.parametrize("end", ENDS)
def test_a_collapse_is_warned_of_once_whatever_ends_the_training(tmp_path, end):
    options = ENDS[end] | {"callbacks": [LikelihoodMetrics(), *ENDS[end].get("callbacks", [])]}
    task = ToyTask(silent)
    with pytest.warns(TrainingWarning, match="collapsed") as caught:
        toy_trainer(tmp_path, **options).fit(task, datamodule=ToyData([image_batch(0), image_batch(2)]))
    assert len([one for one in caught if issubclass(one.category, TrainingWarning)]) == 1


def test_a_training_whose_last_validation_is_alive_is_not_warned_of(tmp_path):
    task = ToyTask(lambda batch: (terms_of if task.current_epoch else silent)(batch))
    trainer = toy_trainer(tmp_path, callbacks=[LikelihoodMetrics()], max_epochs=2)
    trainer.fit(task, datamodule=ToyData([image_batch(0), image_batch(2)]))  # our own warnings are errors in tests


def test_a_collapsed_posterior_is_warned_of(tmp_path):
    with pytest.warns(TrainingWarning, match=r"collapsed: 0 active units, KL 0\.000 nats"):
        figures(tmp_path, LikelihoodMetrics(), silent, "test")


def test_the_preview_shows_what_the_net_saw(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "lightning_cv.callbacks.previews.image_rows",
        lambda rows: seen.update(rows) or torch.zeros(4, 4, 3, dtype=torch.uint8).numpy(),
    )

    def with_inputs(batch):
        return terms_of(batch) | {"inputs": batch["images"] / 2}

    trainer = toy_trainer(tmp_path, callbacks=[ReconstructionPreview(count=3)])
    trainer.validate(ToyTask(with_inputs), datamodule=ToyData([image_batch(1)]), verbose=False)
    assert list(seen) == ["image", "shown", "reconstruction"]
    assert torch.equal(seen["shown"], seen["image"] / 2)
    assert torch.equal(seen["reconstruction"], 1 - seen["image"])
