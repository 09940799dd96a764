"""Trainings of seconds whose steps return fixed answers, for tests of callbacks and loggers."""

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_cv.contracts import LabelMap, Placement, Posterior

BOX_LABELS = LabelMap(("disc", "star"), 1, (1, 2))
MASK_LABELS = LabelMap(("background", "disc"), 0, (0, 1))
PLANE_LABELS = LabelMap(("disc", "star", "ring"), 1, (1, 2, 3))
SEGMENT_LABELS = LabelMap(("ground", "disc", "star"), 0, (1, 2, 3))
SEGMENT_THINGS = (False, True, True)


class ToyData(LightningDataModule):
    """Batches as given, in order."""

    def __init__(self, batches, label_map=BOX_LABELS):
        super().__init__()
        self.batches, self.label_map, self.is_thing = batches, label_map, SEGMENT_THINGS

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


class ToyNet(nn.Module):
    """An autoencoder of one weight: two latents that shift brightness."""

    latent_size = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, images, /):
        mean = images.flatten(1)[:, :2] * self.weight
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latent, /):
        return (latent.sum(1) * self.weight).reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16)


class ToyTask(LightningModule):
    """Trains one weight on noise from the global generator; evaluation returns what `answer` makes of a batch."""

    def __init__(self, answer, losses=()):
        super().__init__()
        self.net, self.answer, self.losses = ToyNet(), answer, list(losses)

    def training_step(self, batch, batch_idx):
        step = self.global_step
        factor = self.losses[step] if step < len(self.losses) else 1.0
        kl = self.net.weight.sum() * torch.rand(()) * factor
        loss = kl + 1.0
        self.log_dict({"train/loss": loss.detach(), "train/kl": kl.detach(), "train/other": torch.tensor(1.0)})
        return {"loss": loss, "kl": kl}

    def validation_step(self, batch, batch_idx):
        return self.answer(batch)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def toy_trainer(folder, **options):
    """A quiet trainer on the CPU."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    settings = {"default_root_dir": folder, "accelerator": "cpu", "logger": False, "max_epochs": 1, **quiet}
    return Trainer(**(settings | {"num_sanity_val_steps": 0} | options))


def mask_batch(first, images=2, size=16):
    """Images of a grey level with a mask whose left half is class 1; the top row is not counted."""
    masks = torch.zeros(images, size, size, dtype=torch.int64)
    masks[:, :, : size // 2] = 1
    masks[:, 0] = 255
    ids = [f"img{first + n}" for n in range(images)]
    grey = torch.tensor([(first + n) / 10 for n in range(images)]).reshape(-1, 1, 1, 1)
    return {"images": grey.expand(images, 3, size, size).clone(), "masks": masks, "image_ids": ids}


def plane_batch(first, images=2, size=16):
    """`mask_batch` with planes: a disc on the left half, a star on all, a ring nowhere; the disc has no top row."""
    batch = mask_batch(first, images, size)
    planes = torch.stack([batch["masks"], torch.ones_like(batch["masks"]), torch.zeros_like(batch["masks"])], dim=1)
    return batch | {"masks": planes}


def box_batch(first, images=2, size=16):
    """Images with one object each, of class 1 and 2 in turn."""
    targets = [
        {"image_id": f"img{first + n}", "boxes": torch.tensor([[2.0, 2.0, 10.0, 10.0]]),
         "difficult": torch.tensor([False]), "labels": torch.tensor([1 + (first + n) % 2]),
         "original_size": (2 * size, 2 * size)}
        for n in range(images)
    ]  # fmt: skip
    return {"images": torch.full((images, 3, size, size), first / 10), "targets": targets}


def panoptic_batch(first, images=2, size=16):
    """Images whose file, twice as large, is half ground (0) and half one thing of class 1 or 2, a void column first."""
    targets = []
    for n in range(images):
        file = torch.full((2 * size, 2 * size), 1)
        file[:, size:] = 2
        file[:, 0] = 0
        truth = {"labels": torch.tensor([0, 1 + (first + n) % 2]), "is_thing": torch.tensor([False, True]),
                 "crowd": torch.tensor([False, False])}  # fmt: skip
        targets.append(
            {"image_id": f"img{first + n}", "segments": file[::2, 1::2].contiguous(), **truth,
             "original_size": (2 * size, 2 * size), "placement": Placement(0.5, 0.5),
             "file": {"segments": file, **truth}}
        )  # fmt: skip
    return {"images": torch.full((images, 3, size, size), first / 10), "targets": targets}


def segments_as_they_are(batch):
    """Every segment found exactly."""
    found = [
        {"segments": t["segments"], "labels": t["labels"], "scores": torch.tensor([1.0, 0.75])}
        for t in batch["targets"]
    ]
    return {"preds": found, "targets": batch["targets"], "image_ids": [t["image_id"] for t in batch["targets"]]}


def image_batch(first, images=2):
    """Grey images for autoencoders."""
    level = torch.tensor([(first + n) / 10 for n in range(images)]).reshape(-1, 1, 1, 1)
    return {"images": level.expand(images, 1, 16, 16).clone(), "labels": torch.zeros(images, dtype=torch.int64),
            "image_ids": [f"img{first + n}" for n in range(images)]}  # fmt: skip


def all_found(batch):
    """Every object found exactly, with a wrong box besides, scored below it."""
    found = [
        {"boxes": torch.cat([t["boxes"], torch.tensor([[0.0, 0.0, 3.0, 3.0]])]), "scores": torch.tensor([0.9, 0.1]),
         "labels": t["labels"].repeat(2)}
        for t in batch["targets"]
    ]  # fmt: skip
    return {"preds": found, "targets": batch["targets"], "image_ids": [t["image_id"] for t in batch["targets"]]}


def all_disc(batch):
    """Class 1 everywhere: IoU 1/2 for it, 0 for the background."""
    return {"preds": torch.ones_like(batch["masks"]), "targets": batch["masks"], "image_ids": batch["image_ids"]}


def all_three(batch):
    """Every label found on the upper half, at 0.75: IoU 7/22 of the disc at size 16, 1/2 of the star, 0 of the ring."""
    scores = torch.full(batch["masks"].shape, 0.25)
    scores[:, :, : scores.shape[2] // 2] = 0.75
    return {"preds": scores, "targets": batch["masks"], "image_ids": batch["image_ids"]}


def terms_of(batch):
    """The image's number as its KL, all in the second latent."""
    number = torch.tensor([float(image_id.removeprefix("img")) for image_id in batch["image_ids"]])
    kl_per_dim = torch.stack([torch.zeros_like(number), number], dim=1)
    terms = {
        "kl": number,
        "reconstruction": 2 * number,
        "elbo": -3 * number,
        "kl_per_dim": kl_per_dim,
        "mean": kl_per_dim,
    }
    return {"preds": 1 - batch["images"], "targets": batch["images"], "image_ids": batch["image_ids"], "terms": terms}
