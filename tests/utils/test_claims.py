"""Claims of real processes that believe to be on different machines, are killed, or are stopped and continued."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import wait_for

from lossbench.utils import claims, owner
from lossbench.utils.claims import ClaimLost, alone, claimed, end_of_dead, silence
from lossbench.utils.files import heed_fence, write_text
from lossbench.utils.owner import Owner

BEAT, STALE = 0.1, 1.5  # seconds

START = f"""
import json, os, signal, sys, time
from pathlib import Path
from lossbench.utils import claims, owner
from lossbench.utils.claims import ClaimLost, alone, claimed
from lossbench.utils.files import write_text
place, guarded, machine = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
owner.this_machine = lambda: (machine, machine)
claims.BEAT, claims.STALE = {BEAT}, {STALE}
"""
HOLD = """
try:
    with claimed(place, guarded) as mine:
        print(mine, flush=True)
        sys.stdin.readline()
        write_text(guarded / "run.json", "of " + machine)
        print("written", flush=True)
except ClaimLost as lost:
    print(lost, flush=True)
"""
WAIT = """
while True:
    with claimed(place, guarded) as mine:
        if mine:
            print(time.monotonic(), flush=True)
            sys.stdin.readline()
            break
    time.sleep(0.01)
"""
LOST = "this process did not run for 2 s, and another one took over its work"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", BEAT)
    monkeypatch.setattr(claims, "STALE", STALE)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "claims", tmp_path / "run"


@pytest.fixture
def process(folders):
    """Start processes on machines of these names; they end with the test."""
    started = []

    def start(body: str, machine: str) -> subprocess.Popen:
        words = [sys.executable, "-c", START + body, *map(str, folders), machine]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def here(monkeypatch):
    """Let this process believe to be on a machine of this name."""
    return lambda name: monkeypatch.setattr(owner, "this_machine", lambda: (name, name))


def seconds_until_mine(folders, most=30):
    begun = time.monotonic()
    while time.monotonic() - begun < most:
        with claimed(*folders) as mine:
            if mine:
                return time.monotonic() - begun
        time.sleep(0.01)
    raise AssertionError("it never became free")


def state(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def stop(process):
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(process) == "T")


def test_one_holds_it_and_the_next_gets_it_when_it_ends(folders):
    with claimed(*folders) as mine, claimed(*folders) as again:
        assert (mine, again) == (True, False)
    for _ in range(3):
        with claimed(*folders) as mine:
            assert mine
    assert [file.name for file in folders[0].iterdir()] == ["4.over"]
    assert list(folders[1].iterdir()) == []


def test_a_claim_on_another_machine_is_respected_while_it_is_renewed(folders, process, here):
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    here("b")
    until = time.monotonic() + 2 * STALE
    while time.monotonic() < until:
        with claimed(*folders) as mine:
            assert not mine
        time.sleep(0.02)
    assert silence(folders[0]) < STALE
    assert other.communicate("go on\n")[0] == "written\n"
    assert (folders[1] / "run.json").read_text() == "of a"
    assert seconds_until_mine(folders) < STALE


def test_a_killed_process_frees_it_at_once_on_its_machine_and_in_time_on_others(folders, process, here):
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    other.kill()
    wait_for(lambda: state(other) == "Z")  # dead, though nobody has waited for it
    here("b")
    assert seconds_until_mine(folders) >= STALE - 2 * BEAT
    with claimed(*folders):
        pass
    other = process(HOLD, "b")
    assert other.stdout.readline() == "True\n"
    other.kill()
    other.wait()
    with claimed(*folders) as mine:
        assert mine


def test_the_claim_of_a_process_that_is_known_to_be_dead_is_free_at_once_and_its_half_written_files_go(
    folders, process, here
):
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    claim = json.loads((folders[0] / "1").read_text())
    half = folders[1] / f".run.json.{claim.pop('token')}"
    half.write_text("half")
    here("b")
    end_of_dead(folders[0], Owner(**{**claim, "pid": claim["pid"] + 1}))
    with claimed(*folders) as mine:
        assert not mine, "that was another process"
    end_of_dead(folders[0], Owner(**claim))
    with claimed(*folders) as mine:
        assert mine
        assert not half.exists()
    assert other.communicate("go on\n")[0] == LOST + "\n", "it lives after all, and writes nothing"
    assert not (folders[1] / "run.json").exists()
    end_of_dead(folders[0] / "none", Owner(**claim))


def test_a_stopped_process_loses_it_and_writes_nothing_when_it_continues(folders, process, here):
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    stop(other)
    here("b")
    assert seconds_until_mine(folders) >= STALE - 2 * BEAT
    with claimed(*folders) as mine:
        assert mine
        other.send_signal(signal.SIGCONT)
        assert other.communicate("go on\n")[0] == f"{LOST}\n"
        assert list(folders[1].iterdir()) == []
        write_text(folders[1] / "run.json", "of b")
    assert [file.name for file in folders[1].iterdir()] == ["run.json"]


def test_a_process_that_is_stopped_between_the_check_and_the_renaming_writes_nothing(folders, process, here):
    """The check cannot help here: its half-written file is deleted by the process that takes over."""
    stopped = """
check = claims._Claim.check
def stopped(claim):
    check(claim)
    if not list(guarded.glob("stopped")):
        (guarded / "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
claims._Claim.check = stopped
"""
    other = process(stopped + HOLD, "a")
    assert other.stdout.readline() == "True\n"
    other.stdin.write("go on\n")
    other.stdin.flush()
    wait_for(lambda: state(other) == "T")
    assert len(list(folders[1].glob(".run.json.*"))) == 1
    here("b")
    seconds_until_mine(folders)
    assert [file.name for file in folders[1].iterdir()] == ["stopped"]
    other.send_signal(signal.SIGCONT)
    assert other.communicate()[0] == f"{LOST}\n"
    assert [file.name for file in folders[1].iterdir()] == ["stopped"]


def test_of_many_that_wait_for_a_stale_claim_one_gets_it(folders, process):
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    waiting = [process(WAIT, f"b{i}") for i in range(4)]
    other.kill()
    wait_for(lambda: (folders[0] / "2").exists())
    for number in range(2, 6):  # one after another, each as the one before ends
        wait_for(lambda number=number: (folders[0] / str(number)).exists())
        time.sleep(2 * BEAT)
        assert {file.name for file in folders[0].iterdir()} == {str(number)}
        holder = json.loads((folders[0] / str(number)).read_text())["pid"]
        (one,) = [process for process in waiting if process.pid == holder]
        one.communicate("go on\n")


def test_no_step_is_lost_where_processes_of_several_machines_take_turns(folders, process):
    count = """
claims.STALE = 100.0  # on a busy machine any of them may stand still for a while
for _ in range(40):
    with alone(place, guarded):
        before = int((guarded / "count").read_text())
        time.sleep(0.0005)
        write_text(guarded / "count", str(before + 1))
"""
    (folders[1] / "count").write_text("0")
    counting = [process(count, machine) for machine in "aabc"]
    assert [one.wait(timeout=100) for one in counting] == [0] * 4
    assert (folders[1] / "count").read_text() == "160"
    assert len(list(folders[0].iterdir())) <= 2


def test_one_whose_look_is_out_of_date_withdraws(folders, monkeypatch):
    """As where a client remembers an old listing, or a process was stopped between its look and its claim."""
    for _ in range(3):
        with claimed(*folders):
            pass
    with claimed(*folders) as mine:
        assert mine
        real, seen = claims._highest, iter([(1, True)])
        monkeypatch.setattr(claims, "_highest", lambda place: next(seen, None) or real(place))
        with claimed(*folders) as late:
            assert not late
        heed_fence()
    with claimed(*folders) as mine:
        assert mine
    assert [file.name for file in folders[0].iterdir()] == ["5.over"]


def test_a_claim_is_lost_when_its_file_is_gone_or_another_ones(folders):
    for spoil in (Path.unlink, lambda file: file.write_text("{}"), lambda file: file.unlink() or file.mkdir()):
        with pytest.raises(ClaimLost), claimed(*folders) as mine:  # noqa: PT012
            assert mine
            (file,) = folders[0].iterdir()
            spoil(file)
            write_text(folders[1] / "run.json", "whole")
        assert list(folders[1].iterdir()) == []
        for entry in folders[0].iterdir():
            entry.rmdir() if entry.is_dir() else entry.unlink()
    with pytest.raises(OSError, match="another one took over its work"), alone(*folders):  # noqa: PT012
        next(folders[0].iterdir()).unlink()
        heed_fence()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"token": "1"}', '{"pid": -1, "token": "1"}', "\xff" * 20_000])
def test_a_claim_that_names_nobody_is_taken_over_once_it_is_stale(folders, text):
    folders[0].mkdir()
    (folders[0] / "1").write_text(text)
    assert seconds_until_mine(folders) >= STALE - BEAT


def test_a_watcher_does_not_take_its_own_absence_for_anothers(folders, here, monkeypatch):
    with claimed(*folders):
        here("elsewhere")
        now = [0.0]
        monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
        looks = 0
        while True:
            os.utime(next(folders[0].glob("?")), (5, 5))  # whatever it says, it says it again and again
            with claimed(*folders) as mine:
                if mine:
                    break
            looks, now[0] = looks + 1, now[0] + 1000 * STALE
            assert looks < 100
    assert looks >= STALE / BEAT - 1


def test_silence_is_told_by_the_servers_clock_alone(folders, monkeypatch):
    folders[0].mkdir()
    assert silence(folders[0]) == 0
    with claimed(*folders):
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert silence(folders[0]) < 100 * BEAT
        monkeypatch.setattr(claims.os, "utime", lambda file: None)
        file = folders[0] / "1"
        past = file.stat().st_mtime_ns - 500 * 10**9
        time.sleep(2 * BEAT)  # the thread finds the other utime
        monkeypatch.undo()
        os.utime(file, ns=(past, past))
        assert 499 < silence(folders[0]) < 600
    assert silence(folders[0]) == 0
    assert [entry.name for entry in folders[0].iterdir()] == ["1.over"]


def test_a_folder_that_this_client_remembers_as_missing_is_asked_for_by_making_it(folders, monkeypatch):
    """Else a short run of another host, begun since this one looked, would be trained again."""
    real, asked = Path.mkdir, []

    def mkdir(path, *words, **options):
        asked.append(path)
        real(path, *words, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    missing = folders[1].parent / "runs" / "ce-r0"
    for guarded in (folders[1], missing):
        with claimed(folders[0], guarded) as mine:
            assert mine
        assert asked[-1] == guarded
    assert not missing.exists()
    assert list(folders[1].iterdir()) == []


def test_patience_ends(folders):
    kept = pytest.raises(TimeoutError, match=r"another process has kept .*claims for 0 s")
    with claimed(*folders), kept, alone(*folders, patience=0.05):
        pass


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt("No space left")])
def test_a_full_disk_and_an_interrupt_leave_no_claim_and_no_thread(folders, monkeypatch, error):
    def stop(*_):
        raise error

    with monkeypatch.context() as changed:
        changed.setattr(claims.json, "dump", stop)
        with pytest.raises(type(error), match="No space left"), claimed(*folders):
            pass
    with claimed(*folders) as mine:
        assert mine
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("claim ")])


def test_of_two_that_look_at_the_same_time_one_gets_it(folders, monkeypatch):
    real, rivals = claims._highest, []

    def look(place):
        found = real(place)
        if not rivals:
            rivals.append(None)
            rivals.append(claims._make(*folders))
        return found

    monkeypatch.setattr(claims, "_highest", look)
    with claimed(*folders) as mine:
        assert not mine
    rivals[1].check()
    rivals[1].end()
    with claimed(*folders) as mine:
        assert mine


def test_one_that_is_late_withdraws_where_another_has_made_and_ended_the_same_claim(folders, monkeypatch):
    """Else the next one would see the ended claim, and take over from a live process."""
    real, rivals = claims._highest, []

    def look(place):
        found = real(place)
        if not rivals:
            rivals.append(None)
            with claimed(*folders) as rival:
                rivals.append(rival)
        return found

    monkeypatch.setattr(claims, "_highest", look)
    with claimed(*folders) as late:
        assert (late, rivals[1]) == (False, True)
    with claimed(*folders) as mine, claimed(*folders) as again:
        assert (mine, again) == (True, False)
        heed_fence()


def test_what_a_killed_process_has_half_written_is_deleted_even_if_the_first_that_does_so_is_killed_too(
    folders, process, here
):
    dying = """
refresh = claims._refresh
def die(folder):
    refresh(folder)
    if not (guarded / "killed").exists():
        (guarded / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
claims._refresh = die
"""
    other = process(HOLD, "a")
    assert other.stdout.readline() == "True\n"
    token = json.loads((folders[0] / "1").read_text())["token"]
    (folders[1] / f".run.json.{token}").touch()
    other.kill()
    other.communicate()
    assert process(dying + HOLD, "a").wait() == -signal.SIGKILL
    assert {file.name for file in folders[0].iterdir()} == {"1.over", "2"}
    here("a")
    with claimed(*folders) as mine:
        assert mine
        assert [file.name for file in folders[1].iterdir()] == ["killed"]
    assert {file.name for file in folders[0].iterdir()} == {"3.over"}


def test_under_many_schedules_a_record_is_put_in_place_once():
    command = Path(__file__).parents[1] / "perf" / "claim_schedules.py"
    done = subprocess.run([sys.executable, command, "150"], capture_output=True, text=True)
    assert done.stdout.startswith("150 schedules: written 150 times, claims lost before it "), done.stdout + done.stderr
