"""A second, small segmentation head on an earlier layer, for training. Letters: N images; K classes; h, w of a map."""

from typing import cast

from torch import Tensor, nn

from lightning_cv.contracts import SegmentationNet
from lightning_cv.ops.upsample import resize_bilinear


class AuxiliaryHead(nn.Module):
    """Class logits from an inner layer of any segmentation net, whose loss shortens the gradient's way to that layer.

    Zhao et al. 2017, "Pyramid scene parsing network", section 3.3 (weight 0.4). The head is the FCN head of torchvision
    and mmsegmentation: a 3x3 convolution with batch normalisation and ReLU, dropout, 1x1 scores, up to the image's size
    bilinearly. It is no part of the net: evaluation, predictions and exports do not know it.

    Args:
        layer: the net's name of the layer, as `named_modules` has it, such as `backbone.stages.2`. Its output is one
            map (N, channels, h, w).
        channels: of that map.
        num_classes: K, as many logits as the net has.
        width: channels between the two convolutions; None is a quarter of `channels`.
        dropout: chance of a channel to be left out.
        weight: factor on the head's loss beside the net's; 0.5 in torchvision's reference.

    Raises:
        ValueError: channels, num_classes or width below 1, weight not above 0.
    """

    def __init__(
        self,
        layer: str,
        channels: int,
        num_classes: int,
        width: int | None = None,
        dropout: float = 0.1,
        weight: float = 0.4,
    ) -> None:
        super().__init__()
        width = max(1, channels // 4) if width is None else width
        if channels < 1 or num_classes < 1 or width < 1:
            raise ValueError(
                "AuxiliaryHead: channels, num_classes and width must be at least 1, got "
                f"{channels}, {num_classes} and {width}"
            )
        if weight <= 0:
            raise ValueError(f"AuxiliaryHead: weight must be above 0, got {weight}")
        self.layer, self.channels, self.num_classes, self.weight = layer, channels, num_classes, weight
        self.head = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, num_classes, 1),
        )

    def layer_of(self, net: SegmentationNet, /) -> nn.Module:
        """The layer of a net that is looked at.

        Raises:
            ValueError: the net has no layer of that name.
        """
        found = cast(nn.Module, net)
        for name in self.layer.split("."):
            children = dict(found.named_children())
            if name not in children:
                raise ValueError(
                    f"AuxiliaryHead: {type(net).__name__} has no layer {self.layer!r}; where it has no {name!r} "
                    f"it has {', '.join(children) or 'none'}"
                )
            found = children[name]
        return found

    def forward(self, net: SegmentationNet, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """The net's logits and the head's, both (N, K, H, W), of images (N, 3, H, W), in one pass of the net.

        Raises:
            ValueError: the layer was not run, gave something else than one map of `channels`, or the net has another
                number of logits.
        """
        seen: list[object] = []
        handle = self.layer_of(net).register_forward_hook(lambda module, given, output: seen.append(output))
        try:
            logits = net.forward(images)
        finally:
            handle.remove()
        maps = seen[-1] if seen else None
        if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1] != self.channels:
            raise ValueError(
                f"AuxiliaryHead: layer {self.layer!r} must give one map (N, {self.channels}, h, w), got {_words(maps)}"
            )
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"AuxiliaryHead: num_classes is {self.num_classes}, the net has {logits.shape[1]} logits")
        return logits, resize_bilinear(self.head(maps), (logits.shape[-2], logits.shape[-1]))


def _words(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    return "nothing: the net does not run it" if output is None else f"a {type(output).__name__}"
