"""First weights of convolutional autoencoders."""

from torch import nn


def he_normal(module: nn.Module) -> None:
    """Normal weights that keep the variance through ReLU layers, zero biases, in every layer of `module`.

    He et al. 2015, "Delving deep into rectifiers", equation 10. PyTorch's own first weights are smaller: through six
    layers and back the signal all but vanishes, and the first few hundred steps are lost.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, (2 / _inputs(layer)) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def small_normal(layer: nn.Linear, factor: float = 0.3) -> None:
    """Weights that pass on `factor` of the deviation, zero bias: for layers into and out of the code.

    A code that says nothing yet is noise; passed on in full it drowns the picture and large betas never use a latent.
    """
    nn.init.normal_(layer.weight, 0.0, factor * layer.in_features**-0.5)
    nn.init.zeros_(layer.bias)


def _inputs(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """Numbers that one output sums over."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    window = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels / layer.groups
    return window / (layer.stride[0] * layer.stride[1]) if isinstance(layer, nn.ConvTranspose2d) else window
