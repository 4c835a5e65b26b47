"""Options that follow from declared settings, and the help that shows them in groups."""

import re

import pytest

from lossbench.config import SETTINGS
from lossbench.data.prepare.options import CropOptions, SplitOptions
from lossbench.utils.settings import settings_of

GROUPS = {
    "Losses": {"losses", "plugins", "deconfound"},
    "Data": {"data", "identities", "min-images", "images-per-identity", "pairs", "flip", "no-verify"},
    "Network": {"backbone", "pretrained", "embedding-dim", "image-size", "dropout"},
    "Training": {"epochs", "batch-size", "lr", "optimizer", "schedule", "weight-decay", "warmup", "sample-centers"},
    "Statistics": {
        "repeats",
        "seed",
        "fpr",
        "smallest-difference",
        "until-settled",
        "max-repeats",
        "max-minutes",
        "select",
        "track",
    },
    "Where and how": {
        "out",
        "name",
        "keep-embeddings",
        "log-to",
        "device",
        "pixels",
        "jobs",
        "threads",
        "engine",
        "ray-address",
        "gpus-per-run",
        "config",
        "force",
        "retry-failed",
        "once",
    },
    "Other": {"json", "quiet", "verbose", "help"},
}


def sections(text):
    """Return the options under each headline of a help text, and the help of each option in one line."""
    found, helps, option = {}, {}, None
    for line in text.splitlines():
        if title := re.fullmatch(r"(\w[\w ]*):", line):
            current = found.setdefault(title[1], set())
        elif option := re.match(r"  (?:-\w, )?--([\w-]+)", line):
            current.add(option[1])
            name = option[1]
            helps[name] = line.strip()
        elif line.startswith("   ") and helps:
            helps[name] += " " + line.strip()
    return found, {name: " ".join(line.split()) for name, line in helps.items()}


def test_run_shows_every_option_once_and_in_its_group(lossbench):
    code, out, _ = lossbench("run", "--help")
    assert code == 0
    found, helps = sections(out)
    assert found == GROUPS
    assert sum(map(len, found.values())) == len(re.findall(r"(?m)^  (?:-\w, )?--", out)) == len(helps)
    assert {name.replace("_", "-") for name in SETTINGS} < set(helps)
    for name, one in SETTINGS.items():
        assert one.help in helps[name.replace("_", "-")]
    columns = {re.search(r"(?<=\S)  +(?=\S)", line).end() for line in re.findall(r"(?m)^  --.*  \S.*$", out)}
    assert len(columns) == 1, "the groups line up"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("losses", "[default: ce,arcface,cosface]"),
        ("backbone", "[default: tiny on orl, else small]"),
        ("epochs", "[default: 60 on orl, else 30]"),
        ("batch-size", "[default: 32 on orl, else 64]"),
        ("lr", "[default: 0.003 for tiny and small, else 0.001; with sgd 0.1 at batch size 512, in proportion to it]"),
        ("optimizer", "--optimizer [adamw|sgd] "),
        ("schedule", "[default: cosine]"),
        ("image-size", "[default: 64 for tiny and small, else 112]"),
        ("embedding-dim", "[default: 128 for tiny, small and mobilefacenet, else 512]"),
        ("seed", "[default: 0]"),
        ("dropout", "[default: 0.2, or what a file of your own says]"),
        ("name", "[default: the data's name]"),
        ("fpr", "[default: 0.1, 0.05, 0.01 and 0.001; also 1e-4, 1e-5 and 1e-6 where the data supports them]"),
        ("fpr", "--fpr LIST "),
        ("select", "--select [last|val] "),
        ("log-to", "--log-to [tensorboard|wandb|trackio] "),
        ("pretrained", "--pretrained <str> "),
    ],
)
def test_run_shows_defaults_and_choices(lossbench, option, says):
    assert says in sections(lossbench("run", "--help")[1])[1][option]


def test_what_has_no_default_shows_none(lossbench):
    helps = sections(lossbench("run", "--help")[1])[1]
    bare = {"plugins", "deconfound", "pairs", "flip", "no-verify", "track", "config", "force", "retry-failed", "help"}
    bare |= {"until-settled", "keep-embeddings", "log-to", "once", "json", "quiet", "verbose"}
    assert {name for name, line in helps.items() if "[default" not in line} == bare


def test_the_collections_are_prepared_with_the_same_options(lossbench):
    shared = {one.name.replace("_", "-") for options in (SplitOptions, CropOptions) for one in settings_of(options)}
    assert len(shared) == 9
    shared |= {"root", "out", "dedupe", "quiet", "verbose", "help"}
    found = {kind: sections(lossbench("data", "prepare", kind, "--help")[1]) for kind in ("celeba", "folder", "lfw")}
    assert {kind: names["Options"] - shared for kind, (names, _) in found.items()} == {
        "celeba": {"download"},
        "folder": {"landmarks", "detect", "face", "min-face", "max-turn", "keep-undetected"},
        "lfw": {"landmarks"},
    }
    for names, helps in found.values():
        assert shared < names["Options"]
        assert "[default: 200, or 7 in 10 people]" in helps["identities"]
        assert "[default: 0.15]" in helps["val"]
        assert helps["crop"].startswith("--crop [arcface|tight|loose] ")
        assert "[default: 112]" in helps["size"]


def test_a_command_cannot_be_quiet_and_verbose(lossbench):
    code, out, err = lossbench("run", "-q", "--verbose")
    assert (code, out) == (2, "")
    assert err == "error: --quiet and --verbose exclude each other; leave out one of the two\n"
