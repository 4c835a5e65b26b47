"""The command line as a user meets it: one line for bad input, no torch for help, the table twice the same."""

import ast
import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import forward, plugin

from lossbench.cli.main import main

FAST = ("--epochs", 2, "--image-size", 32, "--repeats", 1)
LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--losses", "arcfce"), "no loss called 'arcfce'; did you mean 'arcface'?"),
        (("run", "--losses", "arcface:margn=0.3"), "no hyper-parameter 'margn'; did you mean 'margin'?"),
        (("run", "--losses", "arcface:margin=abc"), "arcface's margin must be a number, not 'abc'"),
        (("run", "--data", "nowhere"), "no data called 'nowhere'; --data takes 'orl' or a folder"),
        (("run", "--repeats", "0"), "--repeats 0 is out of range; use 1 to 1000"),
        (("run", "--repeats", "x"), "--repeats"),
        (("run", "--out", "/dev/null/x"), "--out: /dev/null is not a folder; choose another folder"),
        (("run", "--backbone", "resnet19"), "did you mean 'resnet18'?"),
        (("run", "--device", "tpu"), "--device 'tpu' is not known"),
        (("run", "--select", "best"), "--select 'best' is not known; use 'last'"),
        (("run", "--batch-size", "1000"), "--batch-size 1000 is more than the 144 training images"),
        (("run", "--config", "nowhere.toml"), "--config 'nowhere.toml' cannot be read"),
        (("run", "--plugins", "nowhere"), "no plugin folder 'nowhere'"),
        (("run", "--lr", "nan"), "--lr nan is out of range"),
        (("run", "--epochs", "1.5"), "--epochs"),
        (("run", "--fpr", "1e-3;1e-4"), "--fpr '1e-3;1e-4' is no list of numbers; write 0.01,0.001"),
        (("run", "--fpr", "0.1,0"), "--fpr 0.0 is out of range; use rates from 1e-12 to below 1"),
        (("run", "--fpr", "0.01,1e-2"), "--fpr has 0.01 twice; name each rate once"),
        (("evaluate", ".", "--data", ".", "--fpr", "1"), "--fpr 1.0 is out of range"),
        (("evaluate", ".", "--data", ".", "--fpr", "x"), "--fpr 'x' is no list of numbers"),
        (("run", "--pretrained", "casia"), "--pretrained 'casia' is not known; use 'imagenet'"),
        (("run", "--name", "a/b"), "--name 'a/b' cannot name a folder; use a plain folder name such as try1"),
        (("run", "--name", ".."), "--name '..' cannot name a folder"),
        (("run", "--name", LONG), "is too long; use a plain folder name of at most 200 bytes"),
        *(
            (("run", option, LONG), f"{option} '{LONG[:80]}...' is longer than a file name or a path can be")
            for option in ("--out", "--data", "--pairs", "--plugins")
        ),
        (("run", "--config", LONG), f"--config '{LONG[:200]}...' cannot be read: File name too long"),
        (("run", "--losses", f"./{LONG}.py"), "is longer than a file name or a path can be; use a shorter one"),
        (("run", "--out", "/".join(["x" * 200] * 30)), "is longer than a file name or a path can be"),
        (("evaluate", ".", "--data", LONG), "no folder 'x"),
        (("data", "check", LONG), "no folder x"),
        (("data", "show", LONG), "holds none of train/"),
        (("data", "prepare", "folder", "--root", LONG, "--out", "x"), "--root: no folder x"),
        (("data", "prepare", "lfw", "--root", LONG, "--out", "x"), "--root: no folder x"),
        (("data", "prepare", "celeba", "--root", LONG, "--out", "x"), "is missing"),
        (("data", "prepare", "bin", "--file", LONG, "--out", "x"), "File name too long"),
        (("report", "nowhere"), "'nowhere' is not a benchmark's folder; name a folder such as results/orl"),
        (("report",), "no benchmark in 'results'; start with: lossbench run"),
        (("list", "cats"), "cats"),
        (("frobnicate",), "frobnicate"),
        (("run", "--frob"), "--frob"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(lossbench, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = lossbench(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epocs = 3", "no setting called 'epocs'; did you mean 'epochs'?"),
        ("epochs = '3'", "epochs = '3' should be of type int"),
        ("epochs = ", "is not TOML"),
    ],
)
def test_a_bad_config_is_one_line(lossbench, tmp_path, text, says):
    (tmp_path / "bench.toml").write_text(text)
    code, _, err = lossbench("run", "--config", tmp_path / "bench.toml", "--out", tmp_path / "out")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["--help"],
        ["run", "--help"],
        ["data", "prepare", "lfw", "--help"],
        ["--version"],
        ["run", "--losses", "arcfce"],
        ["list", "--json"],
    ],
)
def test_light_commands_import_no_torch(words):
    script = f"import sys; sys.argv[1:] = {words}\nfrom lossbench.cli.main import main\n"
    script += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    script += "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'scipy', 'PIL', 'rich'} & set(sys.modules)\n"
    script += "print('heavy:', heavy)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "heavy: set()" in done.stdout, done.stdout + done.stderr


def test_help_lists_the_exit_codes_on_lines_of_their_own(lossbench):
    lines = lossbench("--help")[1].splitlines()
    codes = lines[lines.index("  Exit codes:") + 1 :]
    assert [line.split()[0] for line in codes if line[:5].strip()] == ["0", "1", "2", "3", "4", "130", "143"]
    assert max(map(len, codes)) <= 80


def test_list_shows_hyper_parameters_defaults_and_papers(lossbench):
    code, out, _ = lossbench("list")
    assert code == 0
    for word in (
        "margin: float = 0.5",
        "arXiv:1801.07698",
        "efficientnet_b0",
        "AT&T Laboratories Cambridge",
        "ResNet-10",
    ):
        assert word in out
    assert "arXiv" not in lossbench("list", "backbones")[1]


def test_run_twice_prints_the_same_table_and_report_writes_everything(lossbench, tmp_path):
    out = tmp_path / "results"
    code, first, _ = lossbench("run", "--losses", "ce,triplet", "--out", out, *FAST)
    assert code == 0
    code, second, _ = lossbench("run", "--losses", "ce,triplet", "--out", out, *FAST)
    assert "3 runs are finished already" in second
    table = "orl: one repeat, which has no interval"
    assert first[first.index(table) :] == second[second.index(table) :]
    assert "untrained*" in first
    code, _, _ = lossbench("report", out / "orl")
    assert code == 0
    figures = {"tpr_fpr", "accuracy_id_rate", "similarities", "training_curves", "angles", "query_map"}
    assert {p.name for p in (out / "orl" / "figures").iterdir()} == {
        f"{f}.{e}" for f in figures for e in ("svg", "png")
    }
    names = ("summary", "runs", "verdicts", "ranks", "disagreements")
    tables = {f"{name}.{kind}" for name in names for kind in ("csv", "tex")}
    assert {p.name for p in (out / "orl" / "tables").iterdir()} == tables
    text = (out / "orl" / "report.md").read_text()
    assert all(f"figures/{figure}.png" in text for figure in figures)


def test_the_file_a_run_leaves_runs_it_again(lossbench, tmp_path):
    lossbench("run", "--losses", "ce", "--out", tmp_path, *FAST)
    code, out, _ = lossbench("run", "--config", tmp_path / "orl" / "benchmark.toml")
    assert code == 0
    assert "2 runs are finished already" in out


def test_a_named_benchmark_has_a_folder_of_its_own(lossbench, tmp_path):
    words = ("run", "--losses", "ce", "--out", tmp_path, *FAST)
    for name, seed in (("try1", 1), ("try 2", 2)):
        code, out, _ = lossbench(*words, "--name", name, "--seed", seed)
        assert code == 0
        assert f"{name}: one repeat, which has no interval" in out
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["try 2", "try1"]
    settings = tomllib.loads((tmp_path / "try1" / "benchmark.toml").read_text())
    assert (settings["name"], settings["data"], settings["seed"]) == ("try1", "orl", 1)
    records = [json.loads(file.read_text()) for file in tmp_path.glob("try1/runs/*/run.json")]
    assert {(record["data"], record["seed"]) for record in records} == {("orl", 1)}
    code, out, _ = lossbench("run", "--config", tmp_path / "try1" / "benchmark.toml")
    assert "2 runs are finished already" in out
    assert lossbench("report", tmp_path / "try1")[0] == 0
    assert "# Losses compared on orl\n" in (tmp_path / "try1" / "report.md").read_text()
    code, out, _ = lossbench("run", "--config", tmp_path / "try1" / "benchmark.toml", "--name", "third")
    assert "training 1 run of 2 epochs" in out
    hashes = {name: {file.name for file in (tmp_path / name / "runs").iterdir()} for name in ("try1", "third")}
    assert hashes["third"] == hashes["try1"], "a name makes no other runs"


def test_all_losses_failing_is_exit_code_1_and_shown(lossbench, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from lossbench import Head\n\nclass Bad(Head):\n    '''Bad.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "    def forward(self, embeddings, labels):\n        raise RuntimeError('out of [bold]luck[/bold] | <b>')\n"
    )
    code, out, _ = lossbench("run", "--losses", tmp_path / "bad.py", "--out", tmp_path / "out", *FAST)
    assert code == 1
    assert "RuntimeError: out of [bold]luck[/bold] | <b>" in out
    assert "0 of 1" in out
    assert lossbench("report", tmp_path / "out" / "orl")[0] == 0
    assert "failed in epoch 1: RuntimeError" in (tmp_path / "out" / "orl" / "report.md").read_text()


def test_ctrl_c_ends_in_one_line(lossbench, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossbench.benchmark.ranks.train", interrupted)
    code, _, err = lossbench("run", "--losses", "ce", "--out", tmp_path, *FAST)
    assert (code, err) == (130, "error: stopped; run the same command again to continue\n")
    code, _, err = lossbench("run", "--losses", "ce", "--out", tmp_path, *FAST, "--force")
    says = "stopped; run the same command without --force to continue"
    assert (code, err) == (130, f"error: {says}\n")
    monkeypatch.setattr("lossbench.report.write.write_report", interrupted)
    code, _, err = lossbench("report", tmp_path)
    assert (code, err) == (130, "error: stopped\n")


def test_no_command_function_bears_the_name_of_a_room():
    package = Path(inspect.getfile(main)).parents[1]
    rooms = {folder.name for folder in package.iterdir() if folder.is_dir()}
    assert {"data", "losses", "models", "report", "results"} < rooms
    functions = {}
    for file in (package / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                functions[node.name] = file.name
    assert "run" in functions
    assert not rooms & set(functions)


@pytest.mark.parametrize("words", [(), ("data",), ("data", "prepare")])
def test_a_command_without_words_prints_its_help_as_it_is(lossbench, words):
    code, out, err = lossbench(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") > 5
    assert err.startswith("Usage: ")


def test_a_usage_error_names_the_help_of_its_command(lossbench):
    assert "lossbench run --help shows what there is" in lossbench("run", "--epochs", "two")[2]


def test_operating_points_are_chosen_and_shown(lossbench, tmp_path):
    words = ("run", "--losses", "ce,triplet", "--fpr", "1e-4,0.2,1e-3", "--out", tmp_path, *FAST)
    code, out, _ = lossbench(*words)
    assert code == 0
    header = next(line for line in out.splitlines() if "accuracy (class means)" in line)
    cells = [cell.strip() for cell in header.strip("┃").split("┃")]
    assert cells[5:8] == ["ID rate @ FPR 0.2", "@ 0.001 †", "@ 0.0001"]
    assert "ID rate @ FPR (TAR @ FAR): share of same-person pairs" in out
    assert "† thin: fewer than 10 negatives lie above the threshold" in out
    assert "so few pairs decide it: ID rate @ FPR 0.001 (9)\n" in out
    assert "The lowest false-positive rate they support is 0.00011; lower rates show a dash." in out
    assert tomllib.loads((tmp_path / "orl" / "benchmark.toml").read_text())["fpr"] == [0.2, 0.001, 0.0001]
    assert lossbench("report", tmp_path / "orl")[0] == 0
    text = (tmp_path / "orl" / "report.md").read_text()
    assert "| ID rate @ FPR 0.2 | @ 0.001 † | @ 0.0001 |" in text
    assert "No two losses have finished two repeats in common" in text, "no matrix of question marks"
    assert "(TAR @ FAR)" in text.split("## Verdict")[0]
    folder = tmp_path / "orl" / "tables"
    tables = {name: (folder / f"{name}.csv").read_text() for name in ("summary", "runs", "verdicts")}
    assert all("tpr@0.2" in table and "tpr@0.1" not in table for table in tables.values())
    assert "tpr@0.0001_low" in tables["summary"]
    code, again, _ = lossbench("run", "--config", tmp_path / "orl" / "benchmark.toml", "--out", tmp_path)
    assert code == 0
    assert header in again


def test_more_repeats_than_until_settled_may_take_are_refused(lossbench):
    code, _, err = lossbench("run", "--until-settled", "--repeats", 9, "--max-repeats", 4)
    assert code == 2
    assert err == "error: --repeats 9 is more than --max-repeats 4; give 4 repeats at most\n"


def test_once_says_by_its_exit_code_whether_a_run_finished_failed_or_was_not_free(lossbench, tmp_path):
    bad = plugin(tmp_path, "bad", forward("1 / 0"))
    words = ("run", "--once", "--losses", bad, "--out", tmp_path / "out", *FAST)
    codes, outs = [], []
    for _ in range(3):
        code, out, err = lossbench(*words)
        codes.append(code)
        outs.append(out)
        assert err == ""
    assert codes == [0, 4, 3]
    assert "training" not in outs[0]
    assert "untrained · repeat 1/1 · measured, nothing to train\n" in outs[0]
    assert "training 1 run of 2 epochs\n" in outs[1]
    assert "bad · repeat 1/1 FAILED in epoch 1: ZeroDivisionError" in outs[1]
    assert "training" not in outs[2]
    assert "nothing is left to do: all 2 runs are complete" in outs[2]
    assert "exit code 0 if it finished, 4 if it failed, 3 if none is free" in " ".join(
        lossbench("run", "--help")[1].split()
    )
