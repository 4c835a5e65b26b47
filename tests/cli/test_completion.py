"""What a shell completes, through the real command; in bash, as its line would read; and without torch."""

import os
import subprocess
import sys

import pytest
from support import FORWARD, plugin

from lossbench.losses.registry import find_plugins
from lossbench.models.backbones import BACKBONES


def completed(*words, cwd=None):
    """Return what `lossbench WORDS` completes its last word to, as zsh and fish ask: one line of words."""
    environment = {**os.environ, "_LOSSBENCH_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": "\n".join(["lossbench", *words]), "COMP_CWORD": str(len(words))}
    script = (
        "import sys; sys.argv[1:] = []; sys.argv[0] = 'lossbench'\n"
        "from lossbench.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'pandas'} & set(sys.modules)\n    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--losses", "arcf"), ["arcface", "arcface_triplet"]),
        (("run", "--losses", "ce,cosf"), ["ce,cosface"]),
        (("run", "--losses", "arcface,arcf"), ["arcface,arcface_triplet"]),
        (("run", "--losses", "al"), ["all"]),
        (("run", "--losses", "./mine.py,al"), ["./mine.py,all"]),
        (("run", "--losses", "all,al"), []),
        (("run", "--losses", "arcface+0.5*al"), []),
        (("check", "al"), []),
        (("run", "--losses", "arcface+0.5*tri"), ["arcface+0.5*triplet"]),
        (("run", "--backbone", "iresnet1"), ["iresnet18", "iresnet100"]),
        (("run", "--optimizer", "a"), ["adamw"]),
        (("run", "--device", "c"), ["cpu", "cuda"]),
        (("check", "sphereface2"), ["sphereface2"]),
        (("check", "--backbone", "mobilef"), ["mobilefacenet"]),
        (("passport", "adac"), ["adacos"]),
        (("list", "ba"), ["backbones"]),
        (("explain", "threshold-t"), ["threshold-transfer"]),
        (("evaluate", "--device", "cu"), ["cuda"]),
        (("run", "--losses", "zzz"), []),
    ],
)
def test_names_are_completed(words, expected):
    assert completed(*words) == expected


def test_an_empty_word_shows_all_there_is(tmp_path):
    assert completed("run", "--losses", "") == ["all", *find_plugins()]
    assert completed("run", "--backbone", "") == list(BACKBONES)
    assert completed("run", "--data", "", cwd=tmp_path) == ["orl"]


def test_files_and_folders_are_completed_where_they_can_stand(tmp_path):
    plugin(tmp_path, "mine", FORWARD)
    (tmp_path / "my_faces").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / ".hidden").mkdir()
    plugin(tmp_path / "more", "other", FORWARD)
    assert completed("run", "--losses", "ce,./m", cwd=tmp_path) == ["ce,./mine.py", "ce,./more/", "ce,./my_faces/"]
    assert completed("run", "--losses", "more/", cwd=tmp_path) == ["more/other.py"]
    assert completed("run", "--backbone", "./mi", cwd=tmp_path) == ["./mine.py"]
    assert completed("run", "--data", "m", cwd=tmp_path) == ["more", "my_faces"]
    assert completed("run", "--plugins", "more", "--losses", "oth", cwd=tmp_path) == ["other"]
    assert completed("run", "--losses", "nowhere/x", cwd=tmp_path) == []


def test_a_broken_plugin_folder_completes_nothing_and_breaks_nothing(tmp_path):
    assert completed("run", "--plugins", str(tmp_path / "nowhere"), "--losses", "arc") == []


def test_a_real_bash_completes_a_list(tmp_path):
    """With the script that --show-completion prints, sourced by bash."""
    command = tmp_path / "lossbench"
    command.write_text(f"#!{sys.executable}\nfrom lossbench.__main__ import main\n\nmain()\n")
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = (
        'eval "$(_LOSSBENCH_COMPLETE=source_bash lossbench)"\n'
        "COMP_WORDS=(lossbench run --losses ce,arcf); COMP_CWORD=3\n"
        '$(complete -p lossbench | sed "s/.*-F \\([^ ]*\\) .*/\\1/") lossbench\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["ce,arcface", "ce,arcface_triplet"], done.stderr
