"""`--log-to trackio`: the local database, read back with sqlite3 and by trackio itself."""

import json
import socket
import sqlite3
import sys
import warnings

import pytest
from support import logged_runs

from lossbench.benchmark.loggers.trackio import _quiet

pytestmark = pytest.mark.extra("trackio")


def rows(database, table):
    with sqlite3.connect(database) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute(f"select * from {table} order by id")]


def test_a_resumed_run_has_every_epoch_once_and_a_failed_one_raises_an_alert(tmp_path, trackio_at, no_network, capsys):
    folder, records, notes = logged_runs(tmp_path, "trackio")
    assert notes == []
    assert capsys.readouterr().out == ""
    name = next((folder / "runs").glob("ce-*")).name
    logged = [row for row in rows(trackio_at / "orl.db", "metrics") if row["run_name"] == name]
    assert [row["step"] for row in logged] == [1, 2, 3, 3]
    assert len({row["run_id"] for row in logged}) == 1
    *epochs, final = [json.loads(row["metrics"]) for row in logged]
    lines = [json.loads(line) for line in (folder / "runs" / name / "history.jsonl").read_text().splitlines()]
    assert [e["train_loss"] for e in epochs] == [pytest.approx(line["train_loss"]) for line in lines]
    assert final["final/tpr@0.1"] == pytest.approx(records["ce"]["metrics"]["tpr@0.1"])
    (config,) = [row for row in rows(trackio_at / "orl.db", "configs") if row["run_name"] == name]
    assert json.loads(config["config"]).items() >= {"loss": "ce", "epochs": 3, "_Group": "ce"}.items()
    (alert,) = rows(trackio_at / "orl.db", "alerts")
    assert (alert["text"], alert["level"]) == (records["broken"]["reason"], "error")
    assert no_network == []  # nothing is sent without being asked for


def test_a_warning_of_what_failed_is_raised_and_no_other_one():
    with _quiet():
        warnings.warn("this will go", DeprecationWarning, stacklevel=1)
        warnings.warn("a file was left open", ResourceWarning, stacklevel=1)
    with pytest.raises(RuntimeError, match="the database is locked"), _quiet():
        warnings.warn("the database is locked", stacklevel=1)


@pytest.fixture
def trackio_at(tmp_path_factory, monkeypatch):
    """Keep trackio's database out of the user's: it reads its place once, when it is imported."""
    place = tmp_path_factory.mktemp("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(place))
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    return place


@pytest.fixture
def no_network(monkeypatch):
    """Refuse every connection; returns where they were to."""
    wanted = []

    def refuse(*where, **options):
        wanted.append(where)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return wanted
