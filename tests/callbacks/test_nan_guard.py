import json

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from oracles.toy_training import ToyData, ToyTask, all_found, box_batch, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import NanGuard
from lightning_cv.errors import UserError


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_it_stops_before_the_weights_are_spoilt_and_says_where(tmp_path, bad):
    task = ToyTask(terms_of, losses=[1.0, 1.0, bad])
    data = ToyData([image_batch(2 * n) for n in range(4)])
    with pytest.raises(UserError) as caught:
        toy_trainer(tmp_path, callbacks=[NanGuard()]).fit(task, datamodule=data)
    message = str(caught.value)
    assert "in step 2, images img4, img5" in message
    assert f"kl is {bad}" in message
    assert "loss" in message
    assert "other" not in message
    assert task.net.weight.isfinite().all()
    kept = json.loads((tmp_path / "not_a_number.json").read_text())
    assert (kept["epoch"], kept["step"], kept["image_ids"]) == (0, 2, ["img4", "img5"])
    assert kept["terms"]["kl"] == str(bad)


def test_a_checkpoint_that_was_there_stays(tmp_path):
    data = ToyData([image_batch(0), image_batch(2)])
    saver = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1, save_on_exception=True)
    trainer = toy_trainer(tmp_path, callbacks=[NanGuard(), saver], enable_checkpointing=True)
    with pytest.raises(UserError):
        trainer.fit(ToyTask(terms_of, losses=[1.0, float("nan")]), datamodule=data)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 1
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_images_of_detection_batches_are_named_by_their_targets(tmp_path):
    task = ToyTask(all_found, losses=[float("nan")])
    with pytest.raises(UserError, match="in step 0, images img0, img1"):
        toy_trainer(tmp_path, callbacks=[NanGuard()]).fit(task, datamodule=ToyData([box_batch(0)]))


def test_finite_losses_pass_and_every_n_steps_looks_less_often(tmp_path):
    data = ToyData([image_batch(2 * n) for n in range(3)])
    toy_trainer(tmp_path, callbacks=[NanGuard()]).fit(ToyTask(terms_of), datamodule=data)
    late = ToyTask(terms_of, losses=[1.0, float("nan")])
    with pytest.raises(UserError, match="in step 2"):
        toy_trainer(tmp_path, callbacks=[NanGuard(every_n_steps=2)]).fit(late, datamodule=data)
    with pytest.raises(ValueError, match="every_n_steps"):
        NanGuard(every_n_steps=0)


class BadOnTheSecond(ToyTask):
    """A loss that is no number in the second process alone."""

    def training_step(self, batch, batch_idx):
        terms = super().training_step(batch, batch_idx)
        return terms if self.global_rank == 0 else {"loss": terms["loss"] * float("nan")}


@pytest.mark.slow
def test_all_processes_stop_in_the_same_step(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[NanGuard()], devices=2, strategy="ddp_fork")
    with pytest.raises(torch.multiprocessing.ProcessRaisedException) as caught:
        trainer.fit(BadOnTheSecond(terms_of), datamodule=ToyData([image_batch(0), image_batch(2)]))
    assert "UserError: training stopped: " in str(caught.value)  # of whichever process was heard first
    (kept,) = tmp_path.glob("not_a_number*.json")
    assert kept.name == "not_a_number-rank1.json"
    assert json.loads(kept.read_text())["step"] == 0
