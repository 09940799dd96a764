"""What crosses file borders: sample and result types, the Protocols a net fulfils, and the conventions, said once.

Letters: N images of a batch or boxes of an image; K classes; H, W height and width in pixels; L latent size.

- image: float32 (3, H, W) RGB or (1, H, W) grey, 0 to 1. The net's own first layer normalises.
- boxes: float32 (N, 4) as x1, y1, x2, y2 in pixels of the image tensor, far edge exclusive.
- detection labels: int64, 1 to K; 0 is background, even for nets without a background logit.
- class mask: int64 (H, W), 0 to K - 1, 255 is "do not count"; instance masks: bool (N, H, W).
- label planes, where a pixel may have several labels: int64 (K, H, W) of 0, 1 and 255, plane k for label k + 1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

VOID = 255
"""The class-mask value of pixels that no loss and no metric counts."""


class DetectionSample(TypedDict):
    """One image file and its objects, as a data set reads them: before any transform."""

    image_id: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4)
    labels: NDArray[np.int64]  # (N,), 1 to K
    difficult: NDArray[np.bool_]  # (N,)
    truncated: NotRequired[NDArray[np.bool_]]  # (N,): VOC's mark of an object that reaches beyond its box
    crowd: NotRequired[NDArray[np.bool_]]  # (N,): COCO's "iscrowd", a region of many objects
    areas: NotRequired[NDArray[np.float64]]  # (N,) px^2: COCO's "area", by which its figures tell sizes apart
    masks: NotRequired[NDArray[np.bool_]]  # (N, H, W)
    proposals: NotRequired[NDArray[np.float32]]  # (P, 4): where objects may be, best first


class SegmentationSample(TypedDict):
    """One image and its class mask or, in a last axis of their own, its label planes, before any transform."""

    image_id: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    mask: NDArray[np.uint8]  # (H, W), 0 to K - 1 and VOID, or (H, W, K) of 0, 1 and VOID


class PanopticSample(TypedDict):
    """One image file and the segments that divide it, before any transform."""

    image_id: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    segments: NDArray[np.int32]  # (H, W): 0 is void, otherwise 1 to N, the position in `labels` plus 1
    labels: NDArray[np.int64]  # (N,), 0 to K - 1
    is_thing: NDArray[np.bool_]  # (N,)
    crowd: NDArray[np.bool_]  # (N,)


class Placement(NamedTuple):
    """Where a prepared image shows its file: a file's point x, y lies at `x_scale * x + left`, `y_scale * y + top`."""

    x_scale: float
    y_scale: float
    left: float = 0.0
    top: float = 0.0


class DetectionTarget(TypedDict):
    """The objects of one image. `original_size` (H, W) is that of the file, in which metrics and results are given."""

    image_id: str
    boxes: Tensor  # float32 (N, 4)
    labels: Tensor  # int64 (N,), 1 to K
    difficult: Tensor  # bool (N,): VOC's "difficult"; False where the data set has no such mark
    original_size: tuple[int, int]
    placement: NotRequired[Placement]  # of evaluation images; absent where the file fills the whole image
    crowd: NotRequired[Tensor]  # bool (N,): COCO's "iscrowd"; absent where the data set has no such mark
    areas: NotRequired[Tensor]  # float64 (N,) px^2 of the file: COCO's "area"; absent where boxes stand for themselves
    masks: NotRequired[Tensor]  # bool (N, H, W)
    file_masks: NotRequired[Tensor]  # of evaluation images: the masks in the file's own pixels, of its size
    proposals: NotRequired[Tensor]  # float32 (P, 4): regions to judge, best first, of a detector that finds none itself
    shown: NotRequired[tuple[int, int]]  # (H, W) of the image alone; absent where the batch was not padded


class RunLengths(TypedDict):
    """An instance mask as COCO compresses it."""

    size: list[int]  # height, width
    counts: str


class TrueSegments(TypedDict):
    """The division of an image into segments."""

    segments: Tensor  # int64 (H, W): 0 is void, otherwise 1 to N
    labels: Tensor  # int64 (N,), 0 to K - 1
    is_thing: Tensor  # bool (N,)
    crowd: Tensor  # bool (N,)


class PanopticTarget(TrueSegments):
    """The segments of one prepared image."""

    image_id: str
    original_size: tuple[int, int]
    placement: NotRequired[Placement]  # as in DetectionTarget
    file: NotRequired[TrueSegments]  # of evaluation images: the segments in the file's own pixels, all of them


class FoundSegments(TypedDict):
    """How a net divides one image; every one of its N segments has a pixel."""

    segments: Tensor  # int64 (H, W): 0 is void, otherwise 1 to N
    labels: Tensor  # int64 (N,), 0 to K - 1
    scores: NotRequired[Tensor]  # float32 (N,), 0 to 1


class Detections(TypedDict):
    """What a detector found in one image, best score first."""

    boxes: Tensor  # float32 (N, 4)
    scores: Tensor  # float32 (N,), 0 to 1
    labels: Tensor  # int64 (N,), 1 to K
    masks: NotRequired[Tensor]  # bool (N, H, W)


class PanopticParts(NamedTuple):
    """What a net proposes for one image before pixels are shared out: Q masks, which may overlap, in no order.

    A detection's label is that of a class mask plus 1.
    """

    masks: Tensor  # bool (Q, H, W)
    labels: Tensor  # int64 (Q,), 0 to K - 1
    scores: Tensor  # float32 (Q,), 0 to 1
    is_thing: Tensor  # bool (Q,)
    boxes: Tensor  # float32 (Q, 4); any numbers for stuff


class Candidates(NamedTuple):
    """Scored boxes before NMS, as many for every image: boxes (N, A, 4), scores (N, A, K), column k label k + 1.

    A score of 0 stands for no candidate.
    """

    boxes: Tensor
    scores: Tensor


class DetectionBatch(TypedDict):
    """A batch for detection: one image size a batch."""

    images: Tensor  # float32 (N, 3, H, W)
    targets: list[DetectionTarget]


class PanopticBatch(TypedDict):
    """A batch for panoptic segmentation; a padded border is void."""

    images: Tensor  # float32 (N, 3, H, W)
    targets: list[PanopticTarget]


class SegmentationBatch(TypedDict):
    """A batch for semantic segmentation; a padded border is VOID in the masks."""

    images: Tensor  # float32 (N, 3, H, W)
    masks: Tensor  # int64 (N, H, W), or label planes (N, K, H, W)
    image_ids: list[str]
    original_sizes: NotRequired[list[tuple[int, int]]]  # (H, W) of the files


class ImageBatch(TypedDict):
    """A batch of images with a class each, for autoencoders and classifiers."""

    images: Tensor  # float32 (N, C, H, W)
    labels: Tensor  # int64 (N,), 0 to K - 1
    image_ids: list[str]


class StepOutput(TypedDict):
    """What a validation or test step hands to the callbacks.

    preds and targets are: class masks int64 (N, H, W) twice for segmentation; probabilities float32 and label planes
    int64, both (N, K, H, W), where a pixel may have several labels; `list[Detections]` and
    `list[DetectionTarget]` for detection, and for localization with one object and one guess an image;
    `list[FoundSegments]` and `list[PanopticTarget]` for panoptic segmentation; reconstructed and original images for
    autoencoders, whose `terms` hold per-image figures in nats, each (N,), and of each latent `mean` and, of a VAE,
    `kl_per_dim` and `log_var`, (N, L). Where an autoencoder was shown something else than the targets, `inputs` is what
    it saw and, for inpainting, `hidden` what it did not. In panoptic segmentation `instances` are the things that the
    same pass found, as masks that may overlap.
    """

    preds: Any  # Tensor, list[Detections] or list[FoundSegments]: the kind of problem decides
    targets: Any  # Tensor, list[DetectionTarget] or list[PanopticTarget]
    image_ids: list[str]
    terms: NotRequired[dict[str, Tensor]]
    inputs: NotRequired[Tensor]  # (N, C, H, W)
    hidden: NotRequired[Tensor]  # bool (N, 1, H, W)
    instances: NotRequired[list[Detections]]


class Posterior(NamedTuple):
    """q(z|x) of each image: mean (N, L) and log variance (N, L), the latter None for a deterministic autoencoder."""

    mean: Tensor
    log_var: Tensor | None


class Draw(NamedTuple):
    """One request to a data set: which sample, and in which epoch, so that its augmentation is a function of both.

    `batch` counts the batches since training began, the same in all processes.
    """

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a Draw
    batch: int = 0


class LabelMap(NamedTuple):
    """Class names of a data set in the order of its contiguous ids, and the ids its files use.

    `names[i]` belongs to contiguous id `i + first`; `first` is 1 for boxes (0 is background) and 0 for class masks
    (where the background is a class of its own). `dataset_ids[i]` is what the files say (COCO: 1 to 90 with gaps).
    """

    names: tuple[str, ...]
    first: int
    dataset_ids: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, background not counted for boxes."""
        return len(self.names)

    def name(self, label: int) -> str:
        """Class name of a contiguous id."""
        return self.names[label - self.first]


@runtime_checkable
class SegmentationNet(Protocol):
    """A net for semantic segmentation: any module that maps images to logits of the images' own size."""

    if TYPE_CHECKING:

        def forward(self, images: Tensor, /) -> Tensor:
            """Logits (N, K, H, W) of images (N, 3, H, W)."""
            ...

    else:  # without types, which the command line would ask for: other libraries' nets often state none

        def forward(self, images, /):
            """Logits (N, K, H, W) of images (N, 3, H, W)."""
            ...


@runtime_checkable
class Detector(Protocol):
    """A net with two verbs, so that training and use never return different things."""

    num_classes: int

    def losses(self, images: Tensor, targets: list[DetectionTarget]) -> dict[str, Tensor]:
        """Scalar loss terms by name, each already weighted: their sum is minimised."""
        ...

    def detect(self, images: Tensor) -> list[Detections]:
        """One entry an image, NMS-filtered, boxes in pixels of `images`."""
        ...


@runtime_checkable
class CandidateDetector(Detector, Protocol):
    """A detector that also tells what it would choose from."""

    def candidates(self, images: Tensor) -> Candidates:
        """All scored boxes, in pixels of `images` (N, 3, H, W), before NMS."""
        ...


@runtime_checkable
class ProposalDetector(Detector, Protocol):
    """A detector that judges regions which something else proposes; `detect` is for where it has a proposer itself."""

    def detect_among(
        self, images: Tensor, proposals: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """As `detect`, among the proposals (P, 4) of each image, in pixels of `images`, cut to sizes (H, W)."""
        ...


@runtime_checkable
class PaddedDetector(Detector, Protocol):
    """A detector that can be told how much of each image is picture, so that it finds nothing in the padding."""

    def detect_in(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """As `detect`, in the upper left (H, W) of each image: boxes are cut to it before the best are chosen."""
        ...


@runtime_checkable
class ContinuingNet(Protocol):
    """A net of which parts may have to come from another run's checkpoint."""

    def check_begun(self) -> None:
        """A `ValueError` that names the option, where they have not."""
        ...


class Merge(Protocol):
    """Shares the pixels of an image out among what a net proposes for it."""

    def __call__(self, parts: PanopticParts, /) -> FoundSegments:
        """Segments, each with a pixel."""
        ...


@runtime_checkable
class PanopticNet(Protocol):
    """A net that divides images: the verbs of a detector, for the things among the classes, and `segments`.

    Labels of its detections are those of the class masks plus 1: 0 is background there. `parts` is what both are made
    of, so that one pass serves both, and another merge than the net's own can be tried.
    """

    num_classes: int
    merge: Merge

    def tell_classes(self, is_thing: Sequence[bool], /) -> None:
        """Which of the K classes are things: told by the data before a net is used, and kept with its weights."""
        ...

    def losses(self, images: Tensor, targets: list[PanopticTarget]) -> dict[str, Tensor]:
        """Scalar loss terms by name, each already weighted: their sum is minimised."""
        ...

    def parts(self, images: Tensor) -> list[PanopticParts]:
        """One entry an image of (N, 3, H, W)."""
        ...

    def segments(self, images: Tensor) -> list[FoundSegments]:
        """The parts of each image, merged."""
        ...

    def detect(self, images: Tensor) -> list[Detections]:
        """The things of each image with their masks, which may overlap, best first, in pixels of `images`."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """A net that codes images (N, C, H, W) and draws logits of the same shape from codes (N, L)."""

    latent_size: int

    def encode(self, images: Tensor, /) -> Posterior:
        """q(z|x) of each image."""
        ...

    def decode(self, latent: Tensor, /) -> Tensor:
        """Logits (N, C, H, W) of codes (N, L)."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """A feature pyramid: `forward` gives one map a stride, finest first."""

    out_channels: Sequence[int]
    strides: Sequence[int]

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Maps (N, out_channels[i], ceil(H / strides[i]), ceil(W / strides[i])) of images (N, 3, H, W)."""
        ...
