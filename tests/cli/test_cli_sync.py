"""`lightning-cv sync` believes the mark alone, and never waits long for a server that is not there."""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lightning_cv.cli import main, sync


@pytest.fixture
def server(monkeypatch):
    """A server that knows nothing, and a key for it."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    found = HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def runs(tmp_path):
    """Two runs, one of them in two logs as after a resume."""
    names = [
        "a/wandb/offline-run-20260101_000000-a",
        "a/wandb/offline-run-20260102_000000-a",
        "b/wandb/offline-run-1-b",
    ]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"run-{name[-1]}.wandb").write_bytes(b"log")
    return tmp_path


def as_command(monkeypatch, code):
    monkeypatch.setattr(
        sync, "COMMAND", (sys.executable, "-c", f"import os, sys, time, pathlib; run = sys.argv[1]; {code}")
    )


MARK = "[p.with_name(p.name + '.synced').write_text('') for p in pathlib.Path(run).glob('run-*.wandb')]"


def test_what_is_marked_was_sent_and_is_not_sent_again(server, runs, monkeypatch, capsys):
    as_command(monkeypatch, MARK)
    assert main(["sync", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == [
        "offline-run-20260101_000000-a: sent", "offline-run-20260102_000000-a: sent", "offline-run-1-b: sent",
    ]  # fmt: skip
    as_command(monkeypatch, "sys.exit('not to be called')")
    assert main(["sync", str(runs / "a"), str(runs / "b")]) == 0
    assert [line.endswith(": sent before") for line in capsys.readouterr().out.splitlines()] == [True] * 3


def test_exit_status_0_without_the_mark_is_a_failure(server, runs, monkeypatch, capsys):
    as_command(monkeypatch, f"('offline-run-1-b' in run) and {MARK}; print('ERROR no way', file=sys.stderr)")
    assert main(["sync", str(runs)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [("NOT SENT: W&B left no mark" in line, line.endswith("ERROR no way")) for line in lines[:2]] == [
        (True, True)
    ] * 2
    assert lines[2].endswith("offline-run-1-b: sent")


def test_the_time_limit(server, runs, monkeypatch, capsys):
    as_command(monkeypatch, "time.sleep(60)")
    begun = time.perf_counter()
    assert main(["sync", str(runs / "b"), "--timeout", "0.5"]) == 1
    assert time.perf_counter() - begun < 20
    assert "NOT SENT: not done after 0.5 s" in capsys.readouterr().out


def test_what_the_command_started_ends_with_it(server, runs, tmp_path, monkeypatch):
    child = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    as_command(monkeypatch, f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}])")
    assert main(["sync", str(runs / "b"), "--timeout", "1"]) == 1
    time.sleep(3.5)
    assert not (tmp_path / "alive").exists()


def test_a_run_that_went_on_after_it_was_sent_is_sent_again(server, runs, monkeypatch, capsys):
    as_command(monkeypatch, MARK)
    (run,) = (runs / "b/wandb").iterdir()
    assert main(["sync", str(run)]) == 0  # the log's own folder, too
    later = time.time() + 60
    os.utime(run / "run-b.wandb", (later, later))
    as_command(monkeypatch, f"{MARK}; [os.utime(p, ({later + 1},) * 2) for p in pathlib.Path(run).glob('*.synced')]")
    capsys.readouterr()
    assert main(["sync", str(run)]) == 0
    assert capsys.readouterr().out.endswith(": sent\n")


def test_no_server_no_key_no_run(runs, tmp_path, monkeypatch, capsys):
    as_command(monkeypatch, "sys.exit('not to be called')")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert main(["sync", str(runs)]) == 2
    assert "http://127.0.0.1:9 does not answer" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["sync", str(tmp_path / "empty")]) == 2
    assert "no offline W&B run" in capsys.readouterr().err
    assert main(["sync", str(tmp_path / "nowhere")]) == 2
    assert main(["sync", str(runs), "--timeout", "nan"]) == 2


def test_nobody_is_logged_in(server, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["sync", str(runs)]) == 2
    assert "nobody is logged in" in capsys.readouterr().err
