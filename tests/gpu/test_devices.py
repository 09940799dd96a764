"""Half precision, compiled nets and metrics on a device: each test runs on the CPU and, where there is one, a GPU."""

import copy
import math
from functools import partial

import pytest
import torch
from oracles.toy_training import (
    BOX_LABELS,
    MASK_LABELS,
    SEGMENT_LABELS,
    ToyData,
    ToyTask,
    all_disc,
    all_found,
    box_batch,
    image_batch,
    mask_batch,
    panoptic_batch,
    segments_as_they_are,
    terms_of,
    toy_trainer,
)

from lightning_cv.callbacks import (
    DetectionMetrics,
    DetectionPreview,
    GradientNorm,
    LatentTraversal,
    LikelihoodMetrics,
    LocalizationMetrics,
    NanGuard,
    PanopticMetrics,
    ReconstructionPreview,
    SegmentationMetrics,
    SegmentationPreview,
)
from lightning_cv.models import FCN, SSD, ConvVAE, SmallBackbone
from lightning_cv.tasks import SegModule, SingleStageDetector, VAEModule

DEVICES = ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)]
PLACE = {"cpu": "cpu", "gpu": "cuda"}
STEPS = 6


def detector():
    net = SSD(SmallBackbone(width=8), num_classes=2)
    data = ToyData([box_batch(n, size=32) for n in range(0, 2 * STEPS, 2)], BOX_LABELS)
    return net, SingleStageDetector, data, [DetectionMetrics(coco="always"), DetectionPreview()], "val/map_50"


def segmentation():
    net = FCN(SmallBackbone(width=8), num_classes=2, stride=8)
    data = ToyData([mask_batch(n, size=32) for n in range(0, 2 * STEPS, 2)], MASK_LABELS)
    return net, SegModule, data, [SegmentationMetrics(), SegmentationPreview()], "val/miou"


def vae():
    net = ConvVAE(image_size=16, latent_size=2, width=4, hidden=16)
    data = ToyData([image_batch(n) for n in range(STEPS)])
    return net, VAEModule, data, [LikelihoodMetrics(), ReconstructionPreview(), LatentTraversal()], "val/elbo"


KINDS = {"detector": detector, "segmentation": segmentation, "vae": vae}


def fit(folder, kind, device, net=None, **options):
    """The task after an epoch, its trainer, and the loss of each step."""
    torch.manual_seed(0)
    made, task_class, data, callbacks, _ = KINDS[kind]()
    task = task_class(made if net is None else net, partial(torch.optim.SGD, lr=0.01))
    losses = []
    step = task.training_step

    def noted(batch, batch_idx):
        torch.manual_seed(batch_idx)  # a VAE samples its codes
        terms = step(batch, batch_idx)
        losses.append(terms["loss"].detach())
        return terms

    task.training_step = noted
    watching = [*callbacks, NanGuard(), GradientNorm()]
    trainer = toy_trainer(folder, accelerator=device, devices=1, callbacks=watching, log_every_n_steps=1, **options)
    trainer.fit(task, datamodule=data)
    return task, trainer, [loss.item() for loss in losses]


@pytest.mark.filterwarnings("ignore::lightning_cv.errors.TrainingWarning")  # a VAE of grey images collapses
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_trains_and_its_figures_are_near_those_of_float32(tmp_path, kind, device):
    precise = fit(tmp_path / "float32", kind, device, precision="32-true")
    task, trainer, losses = fit(tmp_path / "bf16", kind, device, precision="bf16-mixed")
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    assert losses == pytest.approx(precise[2], rel=0.05)
    assert losses != precise[2], "nothing was in half precision"
    assert {weight.dtype for weight in task.parameters()} == {torch.float32}
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert KINDS[kind]()[4] in figures
    assert all(map(math.isfinite, figures.values())), figures
    assert list((tmp_path / "bf16/previews").glob("*.png"))


@pytest.mark.parametrize("device", DEVICES)
def test_normalised_images_are_told_before_they_are_trained_on(tmp_path, device):
    task = VAEModule(ConvVAE(image_size=16, latent_size=2, width=4, hidden=16), partial(torch.optim.SGD, lr=0.01))
    batch = image_batch(0) | {"images": image_batch(0)["images"] - 0.5}
    trainer = toy_trainer(tmp_path, accelerator=device, devices=1, limit_val_batches=0)
    with pytest.raises(ValueError, match="needs images within 0 and 1"):
        trainer.fit(task, datamodule=ToyData([batch]))
    assert trainer.global_step == 0


@pytest.mark.filterwarnings("ignore::lightning_cv.errors.TrainingWarning")
@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), DEVICES[1]])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_net_trains_and_predicts_as_it_would_without(tmp_path, monkeypatch, kind, device):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    eager = KINDS[kind]()[0]
    compiled = copy.deepcopy(eager)
    graphs = []

    build = torch._dynamo.lookup_backend(
        "inductor" if device == "gpu" else "aot_eager"
    )  # the former takes long on CPUs

    def counted(graph, inputs):
        graphs.append(graph)
        return build(graph, inputs)

    for part in compiled.children():
        if type(part).forward is not torch.nn.Module.forward:
            part.compile(backend=counted)
    plain, _, plain_losses = fit(tmp_path / "eager", kind, device, eager)
    task, _, losses = fit(tmp_path / "compiled", kind, device, compiled)
    assert graphs, "nothing was compiled"
    assert losses == pytest.approx(plain_losses, rel=1e-3)
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(task.state_dict()[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    images = KINDS[kind]()[2].batches[0]["images"].to(PLACE[device])
    with torch.inference_mode():
        guess, expected = (predicted(one.to(PLACE[device]).eval(), images) for one in (task, plain))
        torch.testing.assert_close(guess, expected, rtol=1e-3, atol=1e-3)


def predicted(task, images):
    """Logits of masks, or reconstructions; of a detector all scored boxes, of which a hair decides what NMS leaves."""
    if isinstance(task, SingleStageDetector):
        return tuple(task.net.candidates(images))
    return task.net(images) if isinstance(task, SegModule) else task.predict_step(images)


BY_HAND = {
    "segmentation": (SegmentationMetrics, all_disc, mask_batch, MASK_LABELS, {"miou": 0.25, "pixel_accuracy": 0.5}),
    "detection": (DetectionMetrics, all_found, box_batch, BOX_LABELS, {"map": 1.0, "map_50": 1.0, "err_missed": 0.0}),
    "localization": (LocalizationMetrics, all_found, box_batch, BOX_LABELS, {"localization_accuracy": 1.0}),
    "panoptic": (PanopticMetrics, segments_as_they_are, panoptic_batch, SEGMENT_LABELS, {"pq": 1.0, "sq": 1.0}),
    "likelihood": (LikelihoodMetrics, terms_of, image_batch, BOX_LABELS, {"kl": 1.5, "elbo": -4.5}),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", BY_HAND)
def test_metrics_on_the_device_give_the_figures_by_hand(tmp_path, kind, device):
    callback_class, answer, batch, labels, expected = BY_HAND[kind]
    callback, data = callback_class(), ToyData([batch(0), batch(2)], labels)
    task = ToyTask(lambda one: on_device(answer(on_device(one, "cpu")), task.device))
    trainer = toy_trainer(tmp_path, accelerator=device, devices=1, callbacks=[callback])
    trainer.test(task, datamodule=data, verbose=False)
    found = {name.removeprefix("test/"): value.item() for name, value in trainer.callback_metrics.items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert callback.metric.device.type == PLACE[device]


def on_device(value, device):
    """A nested answer with its tensors moved."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: on_device(one, device) for key, one in value.items()}
    return [on_device(one, device) for one in value] if isinstance(value, list) else value
