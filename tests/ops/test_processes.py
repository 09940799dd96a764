"""Two processes with half of a batch each train as one process with all of it."""

import pytest
import torch
from gloo_processes import run_together
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_cv.ops.latents import kl_to_standard_normal, spread
from lightning_cv.ops.objectives import DIPVAE, BetaTCVAE, BetaVAE, Capacity, Coded, Progress
from lightning_cv.ops.processes import joint_batch, mean_over_processes

LATENTS, IMAGES = 3, 8
OBJECTIVES = {
    "elbo": BetaVAE(),
    "free bits": BetaVAE(free_bits=0.5),
    "capacity": Capacity(capacity=2.0, steps=1, gamma=3.0),
    "mws": BetaTCVAE(alpha=2.0, gamma=0.5, estimator="mws"),
    "mss": BetaTCVAE(alpha=2.0, gamma=0.5, estimator="mss"),
    "dip": DIPVAE(2.0, 3.0, "ii"),
}


class Coder(nn.Module):
    """An objective's loss of pictures of four pixels, through one linear layer each way."""

    def __init__(self, objective):
        super().__init__()
        torch.manual_seed(0)
        self.coder, self.drawer = nn.Linear(4, 2 * LATENTS).double(), nn.Linear(LATENTS, 4).double()
        self.objective = objective

    def code(self, images):
        return self.coder(images).chunk(2, dim=1)

    def forward(self, images, noise):
        mean, log_var = self.code(images)
        latent = spread(mean, log_var, noise)
        reconstruction = (self.drawer(latent) - images).square().sum(1)
        return self.objective(Coded(reconstruction, latent, mean, log_var), 4.0, Progress(1, 100))["loss"]


def drawn():
    """Images, the second half brighter, and the noise of their codes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(IMAGES, 4, generator=generator, dtype=torch.float64)
    images[IMAGES // 2 :] *= 4
    return images, torch.randn(IMAGES, LATENTS, generator=generator, dtype=torch.float64)


def trained(model, images, noise):
    """The loss, and its gradients as one row."""
    loss = model(images, noise)
    loss.backward()
    return loss.detach(), torch.cat([weight.grad.flatten() for weight in model.parameters()])


def train(rank, folder):
    share = slice(rank * IMAGES // 2, (rank + 1) * IMAGES // 2)
    found = {}
    for name, objective in OBJECTIVES.items():
        model = DistributedDataParallel(Coder(objective))
        for _ in range(2):  # DDP sends its gradients in another order from the second step on
            model.zero_grad()
            found[name] = trained(model, *(values[share] for values in drawn()))
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path):
    run_together(train, tmp_path, preload=["lightning_cv.ops.objectives", "torch.nn.parallel"])
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, objective in OBJECTIVES.items():
        loss, gradient = trained(Coder(objective), *drawn())
        assert torch.allclose((first[name][0] + second[name][0]) / 2, loss, rtol=1e-12), name
        for mine in (first[name][1], second[name][1]):
            assert torch.allclose(mine, gradient, rtol=1e-10, atol=1e-12), name


def test_the_halves_are_on_either_side_of_floor_and_capacity():
    """Or the test above could not tell whose mean it is that an objective compares."""
    images, _ = drawn()
    kl = kl_to_standard_normal(*Coder(BetaVAE()).code(images))  # (N, L)
    dark, bright = kl.view(2, IMAGES // 2, LATENTS).mean(1)  # (L,) each
    assert ((dark < 0.5) & (bright > 0.5)).any()
    assert dark.sum() < 2.0 < bright.sum()
    assert kl.sum(1).mean().item() != pytest.approx(2.0, abs=0.1)


def test_one_process_is_handed_its_own_tensors():
    values = torch.rand(3, 2)
    assert mean_over_processes(values) is values
    joint, first = joint_batch([values])
    assert joint[0] is values
    assert first == 0
