"""The process: signals end it with one line and the exit code of shells, whatever code they interrupt."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
from support import heed_interrupts

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


SCRIPT = """import contextlib, gc, os, signal, sys, time
import lossbench.cli.main
from lossbench.__main__ import main

def command():
    {body}

lossbench.cli.main.main = command
sys.argv[1:] = []
main()
"""


def ended(body):
    """Run `main` with a function of this body in place of the command line; returns exit code, output, errors."""
    code = SCRIPT.format(body=body.replace("\n", "\n    "))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=heed_interrupts)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def reading(folder, before=heed_interrupts):
    """Start `lossbench run` where a named pipe keeps it in the middle of a read; yields the process and the pipe."""
    pipe = folder / "bench.toml"
    os.mkfifo(pipe)
    words = [sys.executable, "-m", "lossbench", "run", "--config", pipe]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before)
    while True:
        assert process.poll() is None, process.communicate()
        with suppress(OSError):  # nobody reads yet
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        time.sleep(0.01)
    with os.fdopen(descriptor, "w") as file:
        yield process, file


@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_command_that_waits_is_stopped_in_one_line(tmp_path, name, code):
    with reading(tmp_path) as (process, _):
        process.send_signal(name)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "error: stopped; run the same command again to continue\n")


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path):
    with reading(tmp_path, lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as (process, pipe):
        process.send_signal(signal.SIGINT)
        pipe.write("epocs = 3")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no setting called 'epocs'" in err


KILL = "os.kill(os.getpid(), {number})"
SLEEP = "time.sleep(60)"
BOTH = f"    {KILL}\n    {SLEEP}\n"
LOSING = {
    "at once": f"{KILL}\n{SLEEP}",
    "swallowed, and sent again": f"with contextlib.suppress(BaseException):\n{BOTH}" * 2,
    "replaced by a library's error": f"try:\n{BOTH}except BaseException:\n    raise OSError from None",
    "in a destructor": f"class Dying:\n    def __del__(self):\n        {KILL}\n        {SLEEP}\nDying()\n{SLEEP}",
}


@pytest.mark.parametrize("how", LOSING)
@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_is_never_lost(how, name, code):
    assert ended(LOSING[how].format(number=int(name))) == (code, "", "error: stopped\n")


def test_what_a_command_reported_is_not_reported_again():
    body = "try:\n    os.kill(os.getpid(), 15)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit('said')"
    assert ended(body) == (143, "", "")


def test_errors_and_exit_codes_of_commands_are_left_as_they_are():
    assert ended("sys.exit(7)") == (7, "", "")
    code, _, err = ended("raise KeyError('mine')")
    assert (code, err.splitlines()[-1]) == (1, "KeyError: 'mine'")
    code, _, err = ended(
        "class Dying:\n    def __del__(self):\n        raise KeyError('mine')\nDying()\nprint('after')"
    )
    assert code == 0
    assert "Exception ignored in" in err


def test_garbage_is_collected_again_when_a_command_runs():
    assert ended("print(gc.isenabled(), gc.get_freeze_count() > 1000)") == (0, "True True\n", "")


def test_a_signal_during_an_import_is_not_lost_in_it(tmp_path):
    name, code = SIGNALS[0]
    (tmp_path / "deaf.py").write_text(
        "import contextlib, os, signal, time\n"
        f"with contextlib.suppress(BaseException):\n    os.kill(os.getpid(), {name:d})\n    time.sleep(1)\n"
        "from lossbench import Head\n\nclass Deaf(Head):\n    '''Deaf.'''\n"
    )
    words = ["run", "--losses", tmp_path / "deaf.py", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "lossbench", *words], capture_output=True, text=True, preexec_fn=heed_interrupts
    )
    assert (done.returncode, done.stderr) == (code, "error: stopped; run the same command again to continue\n")
