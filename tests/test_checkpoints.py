"""A checkpoint is there whole or not at all."""

import os
import resource
import shutil
import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_cv.checkpoints import AtomicCheckpointIO, clear_unfinished, load_checkpoint, newest_checkpoint
from lightning_cv.errors import TrainingWarning


def checkpoint(step: int, size: int = 10) -> dict[str, object]:
    return {"state_dict": {"w": torch.full((size,), float(step))}, "global_step": step, "epoch": 0}


def save(folder: Path, name: str, step: int) -> Path:
    AtomicCheckpointIO().save_checkpoint(checkpoint(step), folder / name)
    return folder / name


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path, "last.ckpt", 3)
    assert load_checkpoint(path)["global_step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    """The limit on file size stands for the full disk: the system refuses to write on, in the middle of the file."""
    path = save(tmp_path, "last.ckpt", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write the checkpoint .*last\.ckpt.*the previous one is kept"):
            AtomicCheckpointIO().save_checkpoint(checkpoint(2, size=100_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert load_checkpoint(path)["global_step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"], "no half-written file stays behind"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's writer hides the system's reason; then the free space of the disk tells it."""
    path = save(tmp_path, "last.ckpt", 1)

    def fails(_: object, file: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 192 vs 86")

    def refused(_: object, file: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    for write, free in ((fails, 0), (refused, 1000)):
        monkeypatch.setattr("torch.save", write)
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        with pytest.raises(OSError, match=r"last\.ckpt: no space left on the device; the previous one is kept"):
            AtomicCheckpointIO().save_checkpoint(checkpoint(2), path)
    monkeypatch.undo()
    assert load_checkpoint(path)["global_step"] == 1


def test_a_disk_without_room_for_two_more_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = AtomicCheckpointIO()
    writer.save_checkpoint(checkpoint(1), tmp_path / "last.ckpt")  # there is room
    size = (tmp_path / "last.ckpt").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * size - 1))
    with pytest.warns(TrainingWarning, match=r"last\.ckpt has .* MB are left on its disk: make room"):
        writer.save_checkpoint(checkpoint(2), tmp_path / "last.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.save_checkpoint(checkpoint(3), tmp_path / "last.ckpt")


def test_what_killed_writes_left_is_cleared(tmp_path: Path) -> None:
    path = save(tmp_path, "last.ckpt", 1)
    (tmp_path / ".last.ckpt.x1y2.part").write_bytes(b"half")
    clear_unfinished(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_that_is_of_no_run_is_skipped(tmp_path: Path) -> None:
    save(tmp_path, "best.ckpt", 5)
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    found = newest_checkpoint(tmp_path)
    assert found.path.name == "best.ckpt"
    assert [(path.name, "no global_step" in reason) for path, reason in found.skipped] == [("weights.ckpt", True)]


def test_kills_in_the_middle_of_writing_never_leave_a_broken_file(tmp_path: Path) -> None:
    path = save(tmp_path, "last.ckpt", 1)
    big = {**checkpoint(2), "ballast": torch.zeros(3_000_000)}
    for attempt in range(5):
        child = os.fork()
        if child == 0:
            while True:  # writes until killed
                AtomicCheckpointIO().save_checkpoint(big, path)
        time.sleep(0.02 + 0.015 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert load_checkpoint(path)["global_step"] in (1, 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"not a checkpoint at all"])
def test_a_broken_newest_checkpoint_is_skipped_and_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, "best.ckpt", 5)
    (tmp_path / "last.ckpt").write_bytes(content)
    found = newest_checkpoint(tmp_path)
    assert found.path.name == "best.ckpt"
    assert [path.name for path, _ in found.skipped] == ["last.ckpt"]
    assert "last.ckpt" in found.skipped[0][1]


def test_a_truncated_checkpoint_is_skipped(tmp_path: Path) -> None:
    save(tmp_path, "best.ckpt", 5)
    whole = save(tmp_path, "last.ckpt", 9).read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert newest_checkpoint(tmp_path).content["global_step"] == 5


def test_the_checkpoint_with_most_training_wins_whatever_its_date(tmp_path: Path) -> None:
    save(tmp_path, "last.ckpt", 9)
    save(tmp_path, "best.ckpt", 5)
    assert newest_checkpoint(tmp_path).path.name == "last.ckpt"


def test_no_checkpoint_at_all_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        newest_checkpoint(tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, ("touch " + str(tmp_path / "ran"),))

    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt"):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
