import time

from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer

from lightning_cv.callbacks import Throughput


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
