"""Whether a process is dead is known of this machine's alone."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import wait_for

from lossbench.utils import owner
from lossbench.utils.owner import Owner, this_machine

SAY = """
import json, sys
from lossbench.utils.owner import Owner
print(json.dumps(vars(Owner.this_process())), flush=True)
sys.stdin.read()
"""


def sleeper():
    """Start a process that says who it is; returns both."""
    process = subprocess.Popen([sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, Owner(**json.loads(process.stdout.readline()))


def test_a_process_is_dead_once_it_was_killed_even_if_nobody_has_waited_for_it():
    process, named = sleeper()
    assert named.pid == process.pid
    assert (named.host, named.machine) == this_machine()
    assert not named.is_dead()
    process.send_signal(signal.SIGSTOP)
    assert not named.is_dead()
    process.kill()
    wait_for(named.is_dead, seconds=10)
    process.communicate()
    assert named.is_dead()


def test_another_process_with_its_id_is_not_it():
    me = Owner.this_process()
    assert not me.is_dead()
    assert replace(me, born=me.born + "0").is_dead() == Path("/proc/self/stat").exists()


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "another boot"}])
def test_nothing_is_known_of_other_machines(other):
    process, named = sleeper()
    process.kill()
    process.communicate()
    assert named.is_dead()
    assert not replace(named, **other).is_dead()


def test_processes_of_other_users_live(monkeypatch):
    """They cannot be signalled, and /proc may hide them."""

    def refused(pid, number):
        raise PermissionError

    monkeypatch.setattr(owner.os, "kill", refused)
    assert not replace(Owner.this_process(), born="1").is_dead()


def test_without_proc_only_the_id_counts(monkeypatch):
    monkeypatch.setattr(owner, "_state_and_birth", lambda pid: ("", ""))
    me = Owner.this_process()
    assert me.born == ""
    assert not me.is_dead()
    process, named = sleeper()
    process.kill()
    process.communicate()
    assert named.is_dead()
    assert not replace(me, pid=2**70).is_dead()
    monkeypatch.setattr(owner.os, "name", "nt")
    assert not named.is_dead()
    assert me.pid == os.getpid()


def test_a_machine_without_proc_is_known_by_its_network_card(monkeypatch):
    def missing(path):
        raise FileNotFoundError

    with monkeypatch.context() as changed:
        changed.setattr(Path, "read_text", missing)
        this_machine.cache_clear()
        host, card = this_machine()
    this_machine.cache_clear()
    assert host == this_machine()[0]
    assert int(card, 16) > 0
