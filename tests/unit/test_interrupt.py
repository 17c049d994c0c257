"""Ctrl-C while worker processes start: one line, no traceback; workers end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sbs_gym import cells

COMPARE = ["compare", "schedulers=[round_robin,sbs]", "timing=linear", "cluster=toy", "jobs=2"]


def mask_of_this_process():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_interrupts_are_held_back_and_delivered_afterwards():
    reached = []

    def interrupted():
        with cells._interrupts_held_back():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            reached.append(True)

    # A job that was started in the background ignores interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached
    assert not mask_of_this_process()


@pytest.mark.slow
def test_a_spawned_worker_starts_with_interrupts_held_back():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as outside:
        assert not outside.apply(mask_of_this_process)
    with cells._interrupts_held_back():
        pool = context.Pool(1)
    with pool:
        assert pool.apply(mask_of_this_process)
    with cells._interrupts_held_back():
        pool = context.Pool(1, initializer=cells._begin_work)
    with pool:
        assert not pool.apply(mask_of_this_process)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8, 1.2])
def test_interrupt_of_the_whole_group_while_workers_start_prints_one_line(after_s):
    # A script that tells when the workers are being spawned, run as the leader of its own group.
    script = (
        "import sys, sbs_gym.cells as cells\n"
        "from sbs_gym.cli import main\n"
        "compile_once = cells._compile_once\n"
        "def told(config):\n"
        "    compile_once(config)\n"
        "    print('spawning', flush=True)\n"
        "if __name__ == '__main__':\n"
        "    cells._compile_once = told\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    words = [*COMPARE, "num_requests=200000", "seeds=4"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "spawning\n"
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.startswith("sbs-gym:")]
    assert lines == ["sbs-gym: interrupted; nothing was kept, because no output_dir was given"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_their_parent_is_ended(how):
    script = (
        "import os, time, sbs_gym.cells as cells\n"
        "if __name__ == '__main__':\n"
        "    with cells.worker_pool(2) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert is_running(worker)
        process.send_signal(how)
        assert process.wait(timeout=30) == -how
        until = time.monotonic() + 30.0
        while is_running(worker):
            assert time.monotonic() < until, "the worker has outlived its parent"
            time.sleep(0.05)


def is_running(pid):
    """Whether a process is there and no zombie that nobody has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
