import time

import torch
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import Throughput
from lightning_cv.callbacks.timing import GIB, peak_memory


def test_images_over_training_seconds_without_validation(tmp_path):
    class Slow(ToyTask):
        def training_step(self, batch, batch_idx):
            time.sleep(0.02)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            time.sleep(0.2)
            return super().validation_step(batch, batch_idx)

    trainer = toy_trainer(tmp_path, callbacks=[Throughput()])
    trainer.fit(Slow(terms_of), datamodule=ToyData([image_batch(0, images=4), image_batch(4, images=4)]))
    rate = trainer.callback_metrics["train/images_per_s"].item()
    assert 8 / 0.4 < rate < 8 / 0.04  # with the validation's 0.4 s it would be below 18
    assert 0 <= trainer.callback_metrics["train/data_wait"].item() < 0.9


def test_waiting_for_batches_is_told(tmp_path):
    class Late(list):
        def __getitem__(self, index):
            time.sleep(0.5)  # much, for a machine that is busy
            return super().__getitem__(index)

    data = ToyData([image_batch(0), image_batch(2)])
    data.batches = Late(data.batches)
    trainer = toy_trainer(tmp_path, callbacks=[Throughput()])
    trainer.fit(ToyTask(terms_of), datamodule=data)
    assert trainer.callback_metrics["train/data_wait"].item() > 0.6


def test_memory_is_that_of_this_process(tmp_path):
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(before // 4 + 2**26)  # four bytes a number: more than all that was ever held at once
    assert before + 2**26 < peak_memory(torch.device("cpu")) < before + 4 * len(held) + 2**28
    assert before / GIB > 0.1
