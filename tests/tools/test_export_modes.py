"""Binary and multilabel nets as files: what onnxruntime and TorchScript say is what the task predicts."""

from functools import partial
from pathlib import Path

import pytest
import torch
from experiment_nets import EXPERIMENTS, build, net_block

from lightning_cv.tasks import MultilabelSegModule, SegModule
from lightning_cv.tools.export import compare, export, exportable

KINDS = {"binary_drawn": (SegModule, 1), "multilabel_drawn": (MultilabelSegModule, 10)}


def task_of(name: str) -> SegModule:
    """An experiment's net with weights that say yes and no, as a task of its kind."""
    torch.manual_seed(0)
    (path,) = (path for path in EXPERIMENTS if path.stem == name)
    kind, _ = KINDS[name]
    task = kind(build(net_block(path)), partial(torch.optim.SGD, lr=0.1)).eval()
    for parameter in task.net.parameters():
        if parameter.ndim == 4:
            parameter.data *= 2
    return task


def run_onnx(file: Path, images: torch.Tensor) -> torch.Tensor:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(logits)


def run_torchscript(file: Path, images: torch.Tensor) -> torch.Tensor:
    logits = torch.jit.load(file)(images)
    return logits[0] if isinstance(logits, tuple | list) else logits


RUNNERS = {"onnx": run_onnx, "torchscript": run_torchscript}


@pytest.mark.parametrize("form", [pytest.param("onnx", marks=pytest.mark.slow), "torchscript"])
@pytest.mark.parametrize("name", KINDS)
def test_the_files_logits_are_the_tasks_predictions(name: str, form: str, tmp_path: Path) -> None:
    task, file = task_of(name), tmp_path / "net"
    subject = exportable(task.net, torch.rand(2, 3, 64, 96))
    export(subject, torch.rand(2, 3, 64, 96), file, form, {"net": name})
    images = torch.rand(3, 3, 64, 96)
    (difference,) = compare(subject, file, form, images)
    assert difference.is_rounding
    logits = RUNNERS[form](file, images)
    assert logits.shape == (3, KINDS[name][1], 64, 96)
    with torch.no_grad():
        expected = task.predict_step(images)
    found = task.predictions(logits)
    if name == "binary_drawn":
        assert 0.01 < expected.float().mean() < 0.99  # both classes are said
        near = logits[:, 0].abs() < 1e-4
        assert torch.equal(found[~near], expected[~near])
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
