"""A slip gets a short message that names file, key and the nearest valid key, exit status 2, and loses nothing."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only

from lightning_cv.cli import main
from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.cli.main import message_of
from lightning_cv.cli.run_folder import discard_unbegun, make_run_folder, new_run_folder
from lightning_cv.errors import UserError

VAE = f"""
base: [{shipped_experiments()}/vae/beta_vae_digits.yaml]
trainer:
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  enable_progress_bar: false
  accelerator: cpu
"""

LIGHT_VERBS = [
    *("resume", "predict", "tune-merge", "export", "list", "init", "data", "proposals", "sweep", "compare", "demo")
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_CV_DATA", str(tmp_path / "data"))
    (tmp_path / "vae.yaml").write_text(VAE)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a refused command prints: at most five lines, no traceback, and no run folder is left behind."""
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    own = message[message.index("lightning-cv ") :]
    assert len(own.strip().splitlines()) <= 5, own
    assert "Traceback" not in own
    assert not list(Path("runs").glob("*/*/*")), "a run that did not begin leaves no folder"
    return own


def child(text: str) -> str:
    Path("child.yaml").write_text("base: [vae.yaml]\n" + text)
    return "child.yaml"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--model.bta=4", r"command line: no key model\.bta; did you mean model\.beta\?"),
        ("--model.beta=abc", r"command line: model\.beta: Expected a float\. Got value: abc"),
        ("--model.net.widht=8", r"no key model\.net\.widht; did you mean model\.net\.width\?"),
        ("--trainer.max_epoch=3", r"no key trainer\.max_epoch; did you mean trainer\.max_epochs\?"),
        ("--trainer.max_epochs=many", r"trainer\.max_epochs: Expected a int\. Got value: many"),
        ("--modle.beta=4", r"no key modle; did you mean model\?"),
        ("--data.batch_size=0", r"batch_size must be at least 1, got 0"),
        ("--model.beta=-1", r"model\.beta must be at least 0"),
        ("--model.net.latent_size=0", r"latent_size must be at least 1, got 0"),
        ("--model.net=torch.nn.Linear", r"command line: model\.net: torch\.nn\.Linear is no Autoencoder"),
        (
            "--model.net=lightning_cv.models.SSD",
            r"command line: model\.net: lightning_cv\.models\.SSD is no Autoencoder",
        ),
        (
            "--model.net=lightning_cv.models.ConvVAR",
            r"model\.net: lightning_cv\.models has no ConvVAR; did you mean Con",
        ),
        ("--trainer.precision=bf17", r"trainer\.precision: got bf17; did you mean bf16\? Valid: .*bf16-mixed"),
        ("--trainer.callbacks+=nope.Callback", r"command line: trainer\.callbacks: no module nope"),
        ("--ckpt=gone.ckpt", r"no checkpoint at gone\.ckpt"),
    ],
)
def test_slips_on_the_command_line(capsys: pytest.CaptureFixture[str], option: str, expected: str) -> None:
    assert re.search(expected, refused(capsys, "fit", "--config", "vae.yaml", option))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  init_args:\n    betta: 3\n", r"child\.yaml, line 4: no key model\.betta; did you mean model\.beta"),
        ("modell: {}\n", r"child\.yaml, line 2: no key modell; did you mean model\?"),
        ("modell: {a: 1}\n", r"child\.yaml, line 2: no key modell; did you mean model\?"),
        ("model:\n  init_args:\n    beta: [1]\n", r"child\.yaml, line 4: model\.beta: Expected a float"),
        (
            "model:\n  init_args:\n    net: {class_path: lightning_cv.models.SmallBackbone}\n",
            r"child\.yaml, line 4: model\.net: lightning_cv\.models\.SmallBackbone is no Autoencoder",
        ),
        ("model:\n  class_path: lightning_cv.tasks.VAEModul\n", r"line 3: .*has no VAEModul; did you mean VAEModule\?"),
        (
            "data:\n  class_path: lightning_cv.datamodules.DigitsDataModule\n"
            "# class_path: of the model\nmodel:\n  class_path: lightning_cv.tasks.VAEModul\n",
            r"child\.yaml, line 6: .*has no VAEModul",
        ),
        ("model:\n  class_path: no_such_package.Net\n", r"child\.yaml, line 3: .*no module no_such_package"),
        ("target: {metric: test/elbo, valeu: 1, source: x}\n", r"no key target\.valeu; did you mean target\.value\?"),
    ],
)
def test_slips_in_a_file(capsys: pytest.CaptureFixture[str], text: str, expected: str) -> None:
    assert re.search(expected, refused(capsys, "fit", "--config", child(text)))


def test_a_setting_within_settings_is_refused_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["fit", "--config", "segmentation/deconvnet_stage2_drawn", "--data.windows.overlap=2"]
    assert main(argv) == 2
    assert "ProposalWindows: most is at least 1, overlap above 0 and at most 1" in capsys.readouterr().err


def test_a_missing_experiment_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean vae/beta_vae_digits?" in refused(capsys, "fit", "--config", "vae/beta_vae_digit")


def test_a_class_alone_names_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "fit", "--model", "lightning_cv.tasks.SegModule")
    assert "command line: model: lightning_cv.tasks.SegModule needs net, optimizer" in message


def test_a_missing_data_folder_names_the_command_that_fetches_it(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "fit", "--config", "vae/beta_vae_mnist", "--trainer.accelerator=cpu")
    assert "lightning-cv data get mnist" in message


def test_classes_of_net_and_data_that_differ_are_told_with_both_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--data.train=4", "--data.val=2", "--data.test=2", "--data.size=64"]
    options = [*counts, "--model.net.num_classes=7", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    message = refused(capsys, "fit", "--config", "detection/ssd_drawn", *options)
    assert "model.net.num_classes is 7, but the data has 10 classes" in message


def test_a_run_that_failed_before_its_first_step_takes_no_other_file_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_run_folder(folder)
    (folder / "config.yaml").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    discard_unbegun(folder)
    assert (folder / "notes.txt").exists()
    assert (folder / "config.yaml").exists()
    (folder / "notes.txt").unlink()
    (folder / "metrics.csv").write_text("step\n1\n")
    discard_unbegun(folder)
    assert folder.exists()
    (folder / "metrics.csv").write_text("step\n")
    discard_unbegun(folder)
    assert not folder.exists()


def test_a_fast_dev_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    Path("scratch").mkdir()
    one = "--trainer.callbacks=lightning_cv.callbacks.NanGuard"  # a single one in place of the list
    assert main(["fit", "--config", "vae.yaml", "--trainer.fast_dev_run=true", one]) == 0
    assert not list(Path("scratch").glob("lightning-cv-*"))
    assert "run folder" not in capsys.readouterr().out


def test_the_run_folder_is_told_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["fit", "--config", "vae.yaml", "--runs", str(tmp_path / "all")]) == 0
    assert f"run folder: {tmp_path}/all/vae/vae/" in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_made_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert "cannot make the run folder taken/" in refused(capsys, "fit", "--config", "vae.yaml", "--runs", "taken")
    assert Path("taken").read_text() == "a file"


def test_a_folder_that_holds_a_run_is_not_used_again(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/config.yaml").write_text("kept: true\n")
    assert "holds a run already" in refused(capsys, "fit", "--config", "vae.yaml", "--run_dir", "mine")
    assert yaml.safe_load(Path("mine/config.yaml").read_text()) == {"kept": True}


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "metrics.csv", "results.json", "env.json", "photo.png"])
def test_a_folder_that_holds_anything_is_not_used_for_a_run(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("mine", name).parent.mkdir(parents=True)
    Path("mine", name).write_text("mine")
    assert "mine is not empty" in refused(capsys, "fit", "--config", "vae.yaml", "--run_dir", "mine")
    assert [path.read_text() for path in Path("mine").rglob("*") if path.is_file()] == ["mine"]


def test_processes_of_a_job_share_the_folder_that_the_first_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("WORLD_SIZE", "2")
    first = new_run_folder(Path("runs"), "vae", "small")
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    assert new_run_folder(Path("runs"), "vae", "small") == first
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)
    with pytest.raises(UserError, match="the same command again in one job"):
        new_run_folder(Path("runs"), "vae", "small")


def test_a_checkpoint_of_another_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"state_dict": {}, "global_step": 1, "lightning_cv": {"task": "detection"}}, "other.ckpt")
    assert main(["test", "--config", "vae.yaml", "--ckpt", "other.ckpt"]) == 2
    assert "the checkpoint is of task 'detection', this is 'vae'" in capsys.readouterr().err


def test_a_checkpoint_of_another_net_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"state_dict": {"net.x": torch.zeros(1)}, "global_step": 1}, "other.ckpt")
    assert main(["test", "--config", "vae.yaml", "--ckpt", "other.ckpt"]) == 2
    assert "the checkpoint holds another net" in capsys.readouterr().err


CPU_FULL = (
    "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 "
    "bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "RuntimeError", "MemoryError"])
def test_a_batch_that_does_not_fit_is_met_with_advice(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    errors = {
        "OutOfMemoryError": torch.OutOfMemoryError("CUDA out of memory. You tried to allocate 2.00 GiB."),
        "RuntimeError": RuntimeError(CPU_FULL),
        "MemoryError": MemoryError("you tried to allocate too much"),
    }

    def full(_: list[str]) -> int:
        raise errors[kind]

    monkeypatch.setattr(sys.modules["lightning_cv.cli.main"], "_verb", lambda _: full)
    words = refused(capsys, "fit", "--config", "vae.yaml")
    assert "ou tried to allocate" in words
    advice = "lower --data.batch_size, and raise --trainer.accumulate_grad_batches as much"
    assert advice in words
    assert advice not in refused(capsys, "data", "stats"), "there is no batch"


def test_debug_shows_where() -> None:
    with pytest.raises(Exception, match="no key model"):
        main(["fit", "--config", "vae.yaml", "--model.bta=4", "--debug"])


def test_an_error_passed_on_by_a_loader_worker_is_its_last_line() -> None:
    passed_on = ValueError(
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        "  ...\nlightning_cv.datasets.errors.DataError: a.jpg: not a readable image\n"
    )
    assert message_of(passed_on) == "a.jpg: not a readable image"


def test_help_of_light_verbs_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\nfrom lightning_cv.cli import main\n"
        f"for verb in {LIGHT_VERBS}:\n    with contextlib.suppress(SystemExit):\n        main([verb, '--help'])\n"
        "print([m for m in ('torch', 'lightning', 'wandb', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_help_version_and_list_answer_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The processor time of a whole process, start of Python included; waiting for a busy machine is not counted."""
    light = [["--help"], ["--version"], ["list"], *([verb, "--help"] for verb in LIGHT_VERBS)]
    for arguments in light:
        before = os.times()
        subprocess.run([sys.executable, "-m", "lightning_cv", *arguments], check=True, capture_output=True)
        after = os.times()
        assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0


def test_list_names_task_data_and_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"vae/beta_vae_digits +VAEModule +Digits +test/elbo -373.2", output)
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row["target"] for row in json.loads(capsys.readouterr().out)}
    assert rows["detection/ssd_lite0_voc07"].startswith("test/map_50 0.469 (torchvision's SSD")


def test_init_copies_experiments_and_keeps_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("project/experiments/vae/beta_vae_digits.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("mine: true\n")
    assert main(["init", "project"]) == 0
    assert own.read_text() == "mine: true\n"
    assert Path("project/experiments/_base/trainer.yaml").is_file()
    assert "1 kept" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["afile", "/proc/nope"])
def test_init_says_where_it_cannot_write(capsys: pytest.CaptureFixture[str], place: str) -> None:
    Path("afile").write_text("mine")
    assert main(["init", place]) == 2
    message = capsys.readouterr().err
    assert f"cannot write {place}/experiments" in message
    assert "--debug" not in message


@pytest.mark.parametrize("verb", LIGHT_VERBS)
def test_every_light_verb_has_its_own_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    assert f"lightning-cv {verb}" in capsys.readouterr().out
