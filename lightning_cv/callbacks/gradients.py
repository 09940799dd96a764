"""How large gradients are before they are clipped."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from lightning_cv.scalars import log_of_step


class GradientNorm(Callback):
    """`train/gradient_norm`, over all parameters, in the steps that are logged.

    Under mixed precision it is that of the scaled gradients unless the optimizer's plug-in has unscaled them.

    Args:
        per_child: log `train/gradient_norm/<child>` too, for each child of the net that has gradients.
    """

    def __init__(self, per_child: bool = False) -> None:
        self.per_child = per_child

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norms."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # its logger connector sets it
        if not every or (trainer.global_step + 1) % every:
            return
        log_of_step(trainer, pl_module, "train/gradient_norm", _norm(pl_module))
        if self.per_child:
            net = getattr(pl_module, "net", pl_module)
            for name, child in net.named_children():
                if any(parameter.grad is not None for parameter in child.parameters()):
                    log_of_step(trainer, pl_module, f"train/gradient_norm/{name}", _norm(child))


def _norm(module: torch.nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients of a module as one vector."""
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(grads)
