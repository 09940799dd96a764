"""Two processes with unlike pictures learn from Panoptic SegFormer's terms as one with both does."""

from pathlib import Path

import pytest
import torch
from gloo_processes import run_together
from panoptic_nets import net_of, truths

PICTURES = ("usual", "things only")


def terms(pictures: tuple[str, ...], training: bool = True) -> dict[str, float]:
    net = net_of("panoptic_segformer").eval()
    net.training = training  # the net alone, not its layers: no dropout, no statistics of a batch
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    rows = [PICTURES.index(name) for name in pictures]
    return {key: value.item() for key, value in net.losses(images[rows], [truths()[name] for name in pictures]).items()}


def save_terms(rank: int, folder: Path) -> None:
    found = {"together": terms((PICTURES[rank],))}
    if rank == 0:  # as in a validation, of which processes may have unequal shares
        found["alone"] = terms((PICTURES[rank],), training=False)
    torch.save(found, folder / f"{rank}.pt")


def test_counts_are_those_of_all_processes_in_training(tmp_path: Path) -> None:
    run_together(save_terms, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    joint = terms(PICTURES)
    mean = {key: (first["together"][key] + second["together"][key]) / 2 for key in joint}
    assert mean == pytest.approx(joint, rel=1e-4)
    alone = terms(PICTURES[:1])
    assert first["alone"] == pytest.approx(alone, rel=1e-5)
    assert first["together"]["mask_things"] != pytest.approx(alone["mask_things"], rel=0.05)
