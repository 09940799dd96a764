import csv

import numpy as np
import pytest
import torch
from oracles.toy_training import ToyData, ToyTask, image_batch, terms_of, toy_trainer
from PIL import Image

from lightning_cv import tracking
from lightning_cv.callbacks import Absolute, DataQuantiles, LatentTraversal, PriorQuantiles
from lightning_cv.callbacks.traversal import latent_rows


class FactorData(ToyData):
    """Images that say what they were made from: their number's parity, and nothing else."""

    class factors:
        factor_names = ("size", "parity")

    def val_set(self):
        return self.factors


def with_factors(batch):
    numbers = torch.tensor([int(name.removeprefix("img")) for name in batch["image_ids"]])
    return batch | {"factors": torch.stack([torch.zeros_like(numbers), numbers % 2], dim=1)}


def draw(folder, callback, monkeypatch=None, data=None, **options):
    """A training of an epoch on images img0 to img5, whose number is the mean and the KL of the second latent."""
    batches = [image_batch(0), image_batch(2), image_batch(4)]
    toy_trainer(folder, callbacks=[callback], **options).fit(ToyTask(terms_of), datamodule=data or ToyData(batches))
    return folder / "previews"


@pytest.fixture
def seen(monkeypatch):
    """What was drawn."""
    drawn = {}

    def grid(images, labels, columns, heading):
        drawn.setdefault("headings", []).append(heading)
        drawn.update(images=images, labels=labels, columns=columns)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr("lightning_cv.callbacks.traversal.traversal_grid", grid)
    return drawn


def codes_drawn(seen):
    """Sum of each code: the toy net paints it as the logit of every pixel, times its weight."""
    return torch.logit(seen["images"][:, :, 0, 0, 0])


def test_rows_are_ordered_by_kl_over_all_images(tmp_path, seen):
    draw(tmp_path, LatentTraversal(steps=5, range=Absolute(2.0)))
    assert seen["labels"] == ["z1  KL 2.50", "z0  KL 0.00"]
    assert seen["columns"] == ["-2.0", "-1.0", "0", "+1.0", "+2.0"]
    assert seen["headings"] == ["image img0"]
    assert seen["images"].shape == (2, 5, 1, 16, 16)
    sums = codes_drawn(seen)
    assert torch.allclose(sums, sums[0, 4] / 2 * torch.tensor([-2.0, -1, 0, 1, 2]), atol=1e-4)  # img0 has code 0, 0


def test_prior_quantiles(tmp_path, seen):
    draw(tmp_path, LatentTraversal(steps=3, range=PriorQuantiles(0.025), latents=1))
    assert seen["columns"] == ["-2.0", "0", "+2.0"]
    assert seen["labels"] == ["z1  KL 2.50"]
    assert codes_drawn(seen)[0, 0].item() == pytest.approx(-codes_drawn(seen)[0, 2].item(), abs=1e-4)


def test_data_quantiles_are_each_latents_own():
    means = torch.stack([torch.arange(101.0), torch.full((101,), 7.0)], dim=1)
    values = DataQuantiles(0.1).values(3, means)
    assert torch.allclose(values, torch.tensor([[10.0, 50, 90], [7, 7, 7]]), atol=1e-4)
    assert DataQuantiles(0.1).headings(3) == ["10 %", "50 %", "90 %"]


def test_a_latent_moves_as_far_as_the_data(tmp_path, seen):
    draw(tmp_path, LatentTraversal(steps=3, range=DataQuantiles(0.1), image_ids=["img4"]))
    weight = codes_drawn(seen)[1, 0] / 4  # the unused latent stands still: the code's sum stays 4
    assert torch.allclose(codes_drawn(seen)[1], 4 * weight.expand(3), atol=1e-4)
    assert torch.allclose(codes_drawn(seen)[0], weight * torch.tensor([0.5, 2.5, 4.5]), atol=1e-4)
    assert seen["headings"] == ["image img4"]


def test_where_the_other_latents_stay(tmp_path, seen):
    draw(tmp_path / "a", LatentTraversal(count=3))
    assert seen["headings"] == ["image img0", "image img1", "image img2"]
    seen.clear()
    draw(tmp_path / "b", LatentTraversal(image_ids=["img5", "img1"]))
    assert seen["headings"] == ["image img5", "image img1"]
    seen.clear()
    draw(tmp_path / "c", LatentTraversal(centre="prior", steps=3))
    assert seen["headings"] == ["prior mean"]
    assert torch.allclose(codes_drawn(seen)[:, 1], torch.zeros(2), atol=1e-4)
    with pytest.raises(ValueError, match="no image 'img77' among the validation images"):
        draw(tmp_path / "d", LatentTraversal(image_ids=["img77"]))


def test_animation_and_table_lie_beside_the_picture(tmp_path):
    batches = [with_factors(image_batch(first)) for first in (0, 2, 4)]
    folder = draw(tmp_path, LatentTraversal(steps=4, image_ids=["img2"]), data=FactorData(batches), max_epochs=2)
    names = ["latents-epoch{}.csv", "traversal-epoch{}.png", "traversal-img2-epoch{}.gif"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(n.format(e) for n in names for e in ("000", "001"))
    with Image.open(folder / "traversal-img2-epoch001.gif") as animation:
        assert animation.n_frames == 6  # four steps there, two back
        assert animation.info["loop"] == 0
    with (folder / "latents-epoch001.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["latent"], first["active"], first["best_factor"]) == ("1", "True", "parity")
    assert float(first["kl"]) == 2.5
    assert float(first["mutual_information"]) == pytest.approx(np.log(2))
    assert (second["latent"], second["active"], float(second["mutual_information"])) == ("0", "False", 0.0)


def test_an_inactive_latent_knows_nothing():
    """Its mean follows the factor exactly, but by a hair: no draw from the posterior would tell."""
    factor = torch.arange(60)[:, None] % 3
    means = torch.cat([factor, 1e-3 * factor], dim=1).float()
    active, inactive = latent_rows(torch.tensor([1.0, 0.0]), means, factor, ["shape"])
    assert (active.best_factor, active.mutual_information) == ("shape", pytest.approx(np.log(3)))
    assert (inactive.best_factor, inactive.mutual_information) == ("", 0.0)


def test_what_is_known_without_factors():
    rows = latent_rows(torch.tensor([0.1, 2.0]), torch.tensor([[0.0, 1.0], [0.01, -1.0]]))
    assert [(row.rank, row.latent, row.active, row.best_factor, row.mutual_information) for row in rows] == [
        (1, 1, True, "", None),
        (2, 0, False, "", None),
    ]


def test_what_wandb_gets(tmp_path, monkeypatch):
    sent = {}
    for name in ("log_images", "log_animation", "log_table"):
        monkeypatch.setattr(tracking, name, lambda trainer, key, *rest: sent.update({key: rest}))
    folder = draw(tmp_path, LatentTraversal(count=2, steps=3))
    assert set(sent) == {"previews/traversal", "traversal/img0", "traversal/img1", "previews/latents"}
    assert sent["traversal/img1"] == (folder / "traversal-img1-epoch000.gif",)
    columns, rows = sent["previews/latents"]
    assert columns == ["rank", "latent", "kl", "active", "best_factor", "mutual_information", "traversal"]
    assert [row[:3] for row in rows] == [[1, 1, 2.5], [2, 0, 0.0]]
    assert rows[0][-1].shape[2] == 3


def test_bad_settings_are_named(tmp_path):
    for options, message in (
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"latents": 0}, "latents must be at least 1, got 0"),
        ({"centre": "prior", "image_ids": ["a"]}, "choose one"),
    ):
        with pytest.raises(ValueError, match=f"LatentTraversal: .*{message}"):
            LatentTraversal(**options)
    for build, message in (
        (lambda: Absolute(0.0), "Absolute: limit must be above 0"),
        (lambda: PriorQuantiles(0.5), "PriorQuantiles: tail must be between 0 and 0.5, got 0.5"),
        (lambda: DataQuantiles(0.0), "DataQuantiles: tail must be between 0 and 0.5, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    trainer = toy_trainer(tmp_path, callbacks=[LatentTraversal()])
    with pytest.raises(ValueError, match="needs a step that returns terms kl_per_dim and mean"):
        trainer.validate(ToyTask(lambda batch: {"preds": 0}), datamodule=ToyData([image_batch(0)]))
