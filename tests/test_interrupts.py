"""Signals that leave a note: heard by the process, kept from children, and by workers taken from their parent only."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lightning_cv import interrupts


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_the_first_signal_is_noted_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interrupts.listening():
        assert interrupts.received() is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert interrupts.received() is number
    assert interrupts.received() is None
    assert signal.getsignal(number) is before


def test_what_listens_already_keeps_its_note() -> None:
    with interrupts.listening():
        with interrupts.listening():
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received() is signal.SIGTERM


def test_children_do_not_get_the_signals() -> None:
    with interrupts.kept_from_children():
        kept = subprocess.Popen(["sleep", "60"])
    open_to_all = subprocess.Popen(["sleep", "60"])
    for child in (kept, open_to_all):
        child.send_signal(signal.SIGUSR1)
    assert open_to_all.wait(10) == -signal.SIGUSR1
    time.sleep(0.2)
    assert kept.poll() is None
    kept.kill()
    kept.wait(10)


WORKER = """
import multiprocessing, os, signal, subprocess, sys, time
from lightning_cv import interrupts

def work(ready):
    interrupts.leave_to_parent()
    ready.set()
    time.sleep(60)

context = multiprocessing.get_context("fork")
ready = context.Event()
worker = context.Process(target=work, args=(ready,), daemon=True)
worker.start()
ready.wait(20)
for name in ("TERM", "USR1", "USR2"):
    subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)  # somebody else's
time.sleep(0.3)
assert worker.is_alive(), worker.exitcode
worker.terminate()
worker.join(10)
print("ended with", worker.exitcode)
"""


def test_a_worker_ends_by_its_parents_word_alone() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "ended with 0", done.stderr
