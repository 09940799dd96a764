"""A trained net as a file that runs without this package, checked against the net. Letters: N images; H, W in px."""

import json
import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_cv.contracts import Autoencoder, CandidateDetector, Detector, SegmentationNet
from lightning_cv.errors import UserError

Format = Literal["onnx", "torchscript"]

TOLERANCE = 1e-3
"""Largest difference from the net, relative to the largest value of an output, that is put down to rounding."""

INPUT = "images"


class Exportable(NamedTuple):
    """A module from images (N, C, H, W) to a tuple of tensors, what these are called, and what they mean."""

    module: nn.Module
    outputs: dict[str, str]


class Difference(NamedTuple):
    """How far an output of the file is from the net's: the largest difference, and the largest value."""

    output: str
    worst: float
    largest: float

    @property
    def is_rounding(self) -> bool:
        """Whether it is small enough."""
        return self.worst <= TOLERANCE * max(1.0, self.largest)


class _Candidates(nn.Module):
    def __init__(self, net: CandidateDetector) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.net.candidates(images)
        return boxes, scores


class _Logits(nn.Module):
    def __init__(self, net: SegmentationNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.net.forward(images),)


class _Coded(nn.Module):
    def __init__(self, net: Autoencoder, *, spread: bool) -> None:
        super().__init__()
        self.net, self.spread = net, spread

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mean, log_var = self.net.encode(images)
        logits = self.net.decode(mean)
        return (mean, log_var, logits) if self.spread and log_var is not None else (mean, logits)


def exportable(net: object, example: Tensor) -> Exportable:
    """What of a net can be exported, given images (N, C, H, W) of the size it shall take.

    Raises:
        UserError: the net is of no kind that can.
    """
    if isinstance(net, CandidateDetector):
        boxes = "(N, A, 4) x1, y1, x2, y2 in pixels, before non-maximum suppression"
        scores = "(N, A, K) 0 to 1, column k is label k + 1; 0 is no candidate"
        return Exportable(_Candidates(net), {"boxes": boxes, "scores": scores})
    if isinstance(net, Autoencoder):
        with torch.no_grad():
            spread = net.encode(example).log_var is not None
        meaning = {"mean": "(N, L) codes", "log_var": "(N, L)", "logits": "(N, C, H, W) of the decoded mean"}
        if not spread:
            del meaning["log_var"]
        return Exportable(_Coded(net, spread=spread), meaning)
    if isinstance(net, SegmentationNet) and not isinstance(net, Detector) and _is_dense(net, example):
        return Exportable(_Logits(net), {"logits": "(N, K, H, W)"})
    raise UserError(
        f"{type(net).__name__} cannot be exported: it is no autoencoder, no segmentation net, "
        "and no detector that offers its boxes before NMS (candidates)"
    )


def _is_dense(net: SegmentationNet, example: Tensor) -> bool:
    """Whether a net gives one map a class of the images' own size: that it has a `forward` says little."""
    with torch.no_grad():
        logits = net.forward(example)
    return isinstance(logits, Tensor) and logits.ndim == 4 and logits.shape[-2:] == example.shape[-2:]


def export(subject: Exportable, example: Tensor, out: Path, kind: Format, about: dict[str, str]) -> None:
    """Write a module that takes images of the example's size; the example's batch of 1 is fixed, more are any number.

    Args:
        subject: in evaluation mode, on the CPU.
        example: images (N, C, H, W).
        out: the file, which appears when it is whole.
        kind: ONNX by torch's exporter, or TorchScript by tracing.
        about: kept in the file, beside what the outputs mean.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    about = about | {"outputs": json.dumps(subject.outputs)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both exporters warn of their own future and of sizes that are constants
            _WRITERS[kind](subject, example, part, about)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _write_onnx(subject: Exportable, example: Tensor, file: Path, about: dict[str, str]) -> None:
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise UserError(f"ONNX needs {', '.join(missing)}: pip install 'lightning-cv[export]'")
    free = ({0: torch.export.Dim("batch")},) if len(example) > 1 else None
    program = torch.onnx.export(
        subject.module, (example,), dynamo=True, dynamic_shapes=free, verbose=False,
        input_names=[INPUT], output_names=list(subject.outputs),
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(about)
    program.save(file, external_data=False)


def _write_torchscript(subject: Exportable, example: Tensor, file: Path, about: dict[str, str]) -> None:
    traced = torch.jit.trace(subject.module, example)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, file, _extra_files={name: value.encode() for name, value in about.items()})


_WRITERS: dict[Format, Callable[[Exportable, Tensor, Path, dict[str, str]], None]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
}


def compare(subject: Exportable, file: Path, kind: Format, images: Tensor) -> list[Difference]:
    """The file run on images (N, C, H, W), its outputs beside the module's.

    Values are compared in place; where they differ there, boxes of no score may be any, and pairs of equal score in any
    order.
    """
    with torch.no_grad():
        wanted = subject.module(images)
    found = tuple(_RUNNERS[kind](file, images))
    in_place = _differences(subject, found, wanted)
    if list(subject.outputs) != ["boxes", "scores"] or all(one.is_rounding for one in in_place):
        return in_place  # sorted, thousands of all but equal scores would come in orders that rounding decides
    return _differences(subject, _in_one_order(*found), _in_one_order(*wanted))


def _differences(subject: Exportable, found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> list[Difference]:
    return [
        Difference(name, float((got - want).abs().max()), float(want.abs().max()))
        for name, got, want in zip(subject.outputs, found, wanted, strict=True)
    ]


def _in_one_order(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates sorted by score (to 5 decimals), then by box (to whole pixels); boxes without a score are 0."""
    boxes = boxes * (scores.amax(dim=-1, keepdim=True) > 0)
    orders = []
    for some_boxes, some_scores in zip(boxes.double(), scores.double(), strict=True):
        keys = [*some_boxes.round().unbind(-1), (some_scores.amax(dim=-1) * 1e5).round()]
        order = torch.arange(len(some_boxes))
        for key in keys:  # the last key counts most
            order = order[key[order].argsort(stable=True)]
        orders.append(order)
    order = torch.stack(orders)[..., None]  # (N, A, 1)
    return boxes.gather(1, order.expand_as(boxes)), scores.gather(1, order.expand_as(scores))


def _run_onnx(file: Path, images: Tensor) -> list[Tensor]:
    import onnxruntime  # only where asked for: it is an extra

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(value) for value in session.run(None, {INPUT: images.numpy()})]


def _run_torchscript(file: Path, images: Tensor) -> list[Tensor]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return list(torch.jit.load(file)(images))  # type: ignore[no-untyped-call]


_RUNNERS: dict[Format, Callable[[Path, Tensor], list[Tensor]]] = {"onnx": _run_onnx, "torchscript": _run_torchscript}
