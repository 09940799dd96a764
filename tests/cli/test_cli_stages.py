"""Training in stages from the command line: each begins with the weights of the one before.

DeconvNet's second one tests by windows; FCN's begin at stride 32 and end at 8.
"""

from pathlib import Path

import pytest
import torch
from forked import run

from lightning_cv.cli.predictor import load_model
from lightning_cv.ops.window_inference import WindowMax

SMALL = [
    *("--data.train=8", "--data.val=2", "--data.test=2", "--data.batch_size=4", "--trainer.max_epochs=1"),
    *("--trainer.check_val_every_n_epoch=1", "--trainer.limit_train_batches=2", "--trainer.enable_progress_bar=false"),
]


@pytest.mark.slow
def test_stage_2_begins_with_the_weights_of_stage_1(tmp_path: Path) -> None:
    stages = [tmp_path / "one", tmp_path / "two"]
    for number, place in enumerate(stages, 1):
        begin = (
            ["--model.optimizer.lr=0", f"--model.net.weights={stages[0]}/checkpoints/last.ckpt"] if number == 2 else []
        )
        name = f"segmentation/deconvnet_stage{number}_drawn"
        assert run(["fit", "--config", name, "--run_dir", str(place), *SMALL, *begin], tmp_path) == 0
    states = [torch.load(place / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for place in stages]
    trained = [name for name in states[0] if name.endswith((".weight", ".bias"))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in trained)  # of rate 0
    (stages[0] / "checkpoints/last.ckpt").unlink()  # the second one's checkpoint does without it
    last = stages[1] / "checkpoints/last.ckpt"
    assert run(["test", "--ckpt", str(last), "--trainer.enable_progress_bar=false"], tmp_path) == 0
    task = load_model(last, "cpu").task
    assert isinstance(task.inference, WindowMax)
    sizes = []
    task.net.forward = lambda images: sizes.append(tuple(images.shape[-2:])) or images[:, :1].repeat(1, 11, 1, 1)
    task.predict_step(torch.rand(1, 3, 128, 128))
    assert set(sizes) == {(64, 64)}


@pytest.mark.slow
def test_finer_fcns_begin_with_the_weights_of_coarser_ones(tmp_path: Path) -> None:
    names = {32: "fcn32s_vgg_drawn", 16: "fcn16s_vgg_drawn", 8: "fcn_vgg_drawn"}
    states, begin = {}, []
    for stride, name in names.items():
        arguments = ["fit", "--config", f"segmentation/{name}", "--run_dir", str(tmp_path / name), *SMALL, *begin]
        assert run(arguments, tmp_path) == 0, (tmp_path / "output.txt").read_text()
        last = tmp_path / name / "checkpoints/last.ckpt"
        states[stride] = torch.load(last, weights_only=True)["state_dict"]
        assert load_model(last, "cpu").task.net.stride == stride
        begin = ["--model.optimizer.lr=0", f"--model.net.weights={last}"]
    assert states[32]["net.score.weight"].any()
    kept = [name for name in states[32] if "upsamplings" not in name]
    assert all(torch.equal(states[32][name], states[8][name]) for name in kept)  # of rate 0
    assert torch.equal(states[16]["net.upsamplings.0.weight"], states[8]["net.upsamplings.0.weight"])
    finer = [f"net.skip_scores.{number}.weight" for number in (0, 1)]
    assert set(states[8]) - set(states[16]) >= {finer[1]}
    assert not any(states[8][name].any() for name in finer)
