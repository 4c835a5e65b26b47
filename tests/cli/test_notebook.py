"""`lossbench.run` from Python and in a notebook, and the notebook that the README links to."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from support import WORDS

import lossbench
from lossbench.config import SETTINGS, Config
from lossbench.errors import InputError

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "benchmark.ipynb"
FAST = {"epochs": 2, "repeats": 1, "image_size": 32}


def test_it_is_the_command(lossbench, tmp_path, capsys):
    import lossbench as library

    runs = library.run(["ce", "triplet"], out=tmp_path, **FAST)
    out = capsys.readouterr().out
    assert "training 2 runs of 2 epochs\n" in out
    assert "triplet · repeat 1/1 · test accuracy " in out
    assert list(runs.entrant) == ["untrained", "ce", "triplet"]
    code, printed, _ = lossbench("run", "--losses", "ce,triplet", "--out", tmp_path, *WORDS)
    assert code == 0
    assert "3 runs are finished already" in printed, "it is the same benchmark"
    assert library.load_results(tmp_path / "orl").equals(runs)


def test_it_says_nothing_where_it_is_to_be_quiet(tmp_path, capsys):
    lossbench.run("ce", out=tmp_path, quiet=True, **FAST)
    assert capsys.readouterr() == ("", "")
    lossbench.run("ce", out=tmp_path, quiet=True, identities=4, **FAST)
    assert capsys.readouterr().out == "note: batches of 6, not 32: there are 24 training images\n"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epocs": 3}, "lossbench.run: no setting called 'epocs'; did you mean 'epochs'?"),
        ({"epochs": "3"}, "lossbench.run: epochs = '3' should be of type int"),
        ({"fpr": 0.1}, "lossbench.run: fpr = 0.1 should be a list of float"),
        ({"losses": ["ce", "arcfce"]}, "no loss called 'arcfce'; did you mean 'arcface'?"),
        ({"epochs": 0}, "--epochs 0 is out of range; use 1 to 100000"),
        ({"data": Path("nowhere")}, "no data called 'nowhere'; --data takes 'orl' or a folder"),
        ({"until_settled": True, "repeats": 9, "max_repeats": 4}, "--repeats 9 is more than --max-repeats 4"),
    ],
)
def test_bad_input_is_one_line_of_an_input_error(tmp_path, settings, says):
    with pytest.raises(InputError) as error:
        lossbench.run(**settings, out=tmp_path / "out")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_processes_of_torchrun_are_sent_to_the_command(tmp_path, monkeypatch):
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"for one process, not torchrun's 2; use: torchrun \.\.\. -m lossbench run$"):
        lossbench.run("ce", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torch_is_left_to_the_caller_as_it_was(tmp_path):
    set_by_others = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = True
    before = torch.get_rng_state()
    try:
        lossbench.run("ce", out=tmp_path, quiet=True, **FAST)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_deterministic_debug_mode() == 1
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.set_deterministic_debug_mode(set_by_others)


def test_its_signature_shows_every_setting_with_its_default():
    shown = inspect.signature(lossbench.run).parameters
    assert {*SETTINGS, "force", "retry_failed", "verify", "quiet"} == shown.keys()
    assert {name: shown[name].default for name in SETTINGS} == vars(Config())


def test_importing_the_package_and_its_names_is_light():
    """No torch on import, and none before `run` has checked what it was given."""
    script = (
        "import sys, lossbench\n"
        "lossbench.run, lossbench.InputError, dir(lossbench)\n"
        "heavy = {'torch', 'pandas', 'numpy', 'rich', 'typer'}\n"
        "print(heavy & set(sys.modules))\n"
        "try:\n    lossbench.run('arcfce')\nexcept lossbench.InputError as error:\n    print(error)\n"
        "print(heavy & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, error, second = done.stdout.splitlines()
    assert (first, second) == ("set()", "set()")
    assert error.startswith("no loss called 'arcfce'; did you mean 'arcface'?")


class Watching(NotebookClient):
    """Remembers what a notebook changed in place."""

    def process_message(self, message, cell, index):
        if message["msg_type"] == "update_display_data":
            self.seen = [*getattr(self, "seen", []), message["content"]["data"]["text/html"]]
        return super().process_message(message, cell, index)


def test_the_notebook_that_the_readme_links_to_runs_shows_a_bar_and_errors_of_one_line(tmp_path):
    """In one kernel: to start one and import torch takes longer than the cells."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells), "clear them"
    wrong = nbformat.v4.new_code_cell("lossbench.run('ce', epochs=0)", metadata={"tags": ["raises-exception"]})
    notebook.cells.append(wrong)
    client = Watching(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    train, table, plot, _, measured, wrong = (cell.outputs for cell in client.execute().cells if "outputs" in cell)

    (bar,) = [output for output in train if output.output_type == "display_data"]
    assert bar.data["text/html"] == client.seen[-1] == "", "it is gone at the end"
    assert '<progress value="2" max="32"></progress> ce · repeat 1/2 · epoch 2/8 · 2/32 ' in "".join(client.seen)
    text = "".join(output.text for output in train if output.output_type == "stream")
    assert "ce · repeat 1/2 · test accuracy " in text
    assert "\x1b" not in text

    assert "<table" in train[-1].data["text/html"]
    assert "arcface" in table[-1].data["text/html"]
    assert any("image/png" in output.get("data", {}) for output in plot)
    here, there = re.search(r"measured here: (\S+) at FPR 0.1; in the benchmark: (\S+)\n", measured[0].text).groups()
    assert float(here) == pytest.approx(float(there), abs=0.1)
    assert (tmp_path / "results" / "orl" / "benchmark.toml").is_file()

    assert wrong[-1].traceback == ["InputError: --epochs 0 is out of range; use 1 to 100000"]
