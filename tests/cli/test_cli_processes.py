"""What the number of processes means: the size of a step's batch, and the place of a run when that number changes."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from forked import SIGNAL_AT
from test_cli_interrupted import HALVES, SIGNALLING, two_processes
from test_cli_resume import BATCHES, EPOCHS, VAE, experiment, final_state, only_run
from torch.distributed import TCPStore

from lightning_cv.cli.processes import batch_words, meet_anew, rescale
from lightning_cv.interrupts import STATUS


@pytest.mark.parametrize(
    ("ready", "before", "now", "expected"),
    [
        (0, 10, 20, 0),
        (25, 10, 20, 50),  # two epochs and a half
        (50, 20, 10, 25),
        (30, 10, 20, 60),  # whole epochs stay whole
        (21, 10, 2, 5),  # a tenth of an epoch of two batches: one of them, so that something is done
        (29, 10, 2, 5),  # and nine tenths too, so that something is left
        (25, 10, 1, 3),  # an epoch of one batch has no middle
    ],
)
def test_as_much_of_the_epoch_is_done(ready: int, before: int, now: int, expected: int) -> None:
    counters = {"ready": ready, "started": ready, "processed": ready, "completed": max(0, ready - 1)}
    rescale(counters, before, now)
    assert counters["ready"] == counters["started"] == counters["processed"] == expected
    assert counters["completed"] == expected - (ready > 0)


def test_the_batch_of_a_step_is_told_and_the_rate_not_touched() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    trainer = SimpleNamespace(world_size=4, accumulate_grad_batches=2, optimizers=[optimizer])
    words = batch_words(trainer, SimpleNamespace(batch_size=16))
    assert words is not None
    assert "a step sees 128 images: 4 process(es) x 16 x 2 accumulated" in words
    assert "learning rate 0.01 as set" in words
    assert "would become 0.08 by the linear rule" in words
    assert optimizer.param_groups[0]["lr"] == 0.01
    alone = SimpleNamespace(world_size=1, accumulate_grad_batches=1, optimizers=[optimizer])
    assert batch_words(alone, SimpleNamespace(batch_size=16)) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_process_goes_on_with_a_run_of_two_and_says_what_differs(tmp_path: Path) -> None:
    data = HALVES | {"init_args": HALVES["init_args"] | {"batch_size": 100}}
    experiment(tmp_path, VAE, data, 100, SIGNALLING)
    ended, _ = two_processes(tmp_path, f"on_train_batch_start:{BATCHES + 3} both", devices=2)
    assert ended.returncode == STATUS, ended.stderr
    assert "a step sees 200 images: 2 process(es) x 100" in ended.stderr
    run = only_run(tmp_path)
    ended, _ = two_processes(tmp_path, "", "resume", str(run), "--devices", "1", devices=1)
    assert ended.returncode == 0, ended.stderr
    assert "1 process(es) go on with a run of 2: epoch 2, batch 3 of 6 instead of 3 of 6." in ended.stderr
    assert "a step sees 100 images instead of 200" in ended.stderr
    assert "trainer.devices" not in ended.stderr
    assert len((run / "metrics.csv").read_text().splitlines()) > BATCHES * EPOCHS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_starts_again_and_the_run_goes_on(tmp_path: Path) -> None:
    """One of two processes is killed: torchrun ends the other, starts both again, in the same folder."""
    experiment(tmp_path, VAE, HALVES, BATCHES, SIGNALLING)
    words = (
        "--standalone --nproc-per-node=2 --max-restarts=1 -m lightning_cv fit --config small.yaml --trainer.devices=2"
    )
    ended, _ = two_processes(
        tmp_path,
        f"on_train_batch_start:{BATCHES + 3} 1 SIGKILL",
        *words.split(),
        devices=2,
        module="torch.distributed.run",
    )
    assert ended.returncode == 0, ended.stderr
    assert SIGNAL_AT not in ended.stderr
    assert "started again: going on in" in ended.stderr
    assert final_state(tmp_path)["global_step"] == BATCHES * EPOCHS


def test_processes_that_torchrun_started_again_meet_at_a_new_port(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ports = []
    for rank in ("0", "1"):
        for name, value in (
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", str(agent.port)),
            ("RANK", rank),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ):
            monkeypatch.setenv(name, value)
        meet_anew()
        assert os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "False"
        ports.append(os.environ["MASTER_PORT"])
    assert ports[0] == ports[1] != str(agent.port)


def test_processes_of_a_first_start_meet_where_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29400")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    meet_anew()
    assert os.environ["MASTER_PORT"] == "29400"
