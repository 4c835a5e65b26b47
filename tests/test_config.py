"""The settings: each declared once, what suits the data and the backbone, ranges, and TOML there and back."""

import inspect
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from support import network

from lossbench.benchmark.settings_file import read_config, to_toml
from lossbench.config import SETTINGS, Config, setting, settings_touching, typed
from lossbench.errors import InputError

ORL = {
    "backbone": "tiny",
    "embedding_dim": 128,
    "image_size": 64,
    "epochs": 60,
    "batch_size": 32,
    "lr": 0.003,
    "repeats": 5,
}
FOLDER = ORL | {"backbone": "small", "epochs": 30, "batch_size": 64, "repeats": 3}
TORCHVISION = {"embedding_dim": 512, "image_size": 112, "lr": 0.001}
RANGES = {
    "repeats": (1, 1000),
    "smallest_difference": (1e-6, 0.5),
    "max_repeats": (2, 1000),
    "max_minutes": (0.01, 10_000_000),
    "epochs": (1, 100_000),
    "batch_size": (2, 65_536),
    "embedding_dim": (2, 65_536),
    "image_size": (32, 1024),
    "identities": (2, 10_000_000),
    "min_images": (2, 10_000_000),
    "images_per_identity": (2, 10_000_000),
    "seed": (0, 2**63 - 1),
    "lr": (1e-8, 10),
    "weight_decay": (0, 10),
    "dropout": (0, 0.95),
    "warmup": (0, 0.9),
    "sample_centers": (1e-6, 1),
    "jobs": (1, 1024),
    "threads": (1, 1024),
    "gpus_per_run": (0.01, 1),
}
OTHER = {  # a value of every setting that is not its default
    "losses": "ce",
    "plugins": ("mine", "yours"),
    "deconfound": True,
    "data": "faces",
    "identities": 5,
    "min_images": 6,
    "images_per_identity": 7,
    "pairs": "pairs.txt",
    "flip": True,
    "backbone": "resnet18",
    "pretrained": "imagenet",
    "embedding_dim": 9,
    "image_size": 40,
    "dropout": 0.5,
    "epochs": 11,
    "batch_size": 12,
    "lr": 1.0,
    "optimizer": "sgd",
    "schedule": "step:3,7",
    "weight_decay": 0.0,
    "warmup": 0.0,
    "sample_centers": 0.1,
    "repeats": 13,
    "smallest_difference": 0.05,
    "until_settled": True,
    "max_repeats": 15,
    "max_minutes": 1.5,
    "seed": 14,
    "fpr": (0.01, 1e-05),
    "select": "val",
    "track": True,
    "out": "there",
    "keep_embeddings": True,
    "name": 'Größe "2"',
    "log_to": ("wandb", "trackio"),
    "device": "cpu",
    "pixels": "stream",
    "jobs": 15,
    "threads": 16,
    "engine": "ray",
    "ray_address": "head:6379",
    "gpus_per_run": 0.25,
}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ORL),
        ({"data": "faces"}, FOLDER),
        ({"data": "./orl"}, FOLDER),
        ({"backbone": "resnet18"}, ORL | TORCHVISION | {"backbone": "resnet18"}),
        ({"data": "faces", "backbone": "timm:vit"}, FOLDER | TORCHVISION | {"backbone": "timm:vit"}),
        ({"optimizer": "sgd"}, ORL | {"lr": 0.1 * 32 / 512}),
        (
            {"optimizer": "sgd", "batch_size": 512, "backbone": "resnet18"},
            ORL | TORCHVISION | {"backbone": "resnet18"} | {"batch_size": 512, "lr": 0.1},
        ),
        ({"optimizer": "sgd", "batch_size": 65_536}, ORL | {"batch_size": 65_536, "lr": 10}),
        ({"optimizer": "sgd", "lr": 0.5}, ORL | {"lr": 0.5}),
        ({"epochs": 1, "batch_size": 2, "lr": 1.0}, ORL | {"epochs": 1, "batch_size": 2, "lr": 1.0}),
    ],
)
def test_defaults_suit_the_data_and_the_backbone(given, found):
    resolved = asdict(Config(**given).resolved())
    assert {name: resolved[name] for name in found} == found
    assert {name: resolved[name] for name in given} == given


def test_the_file_of_a_network_says_what_suits_it(tmp_path):
    path = network(tmp_path)
    resolved = Config(backbone=path).resolved()
    assert (resolved.backbone, resolved.image_size, resolved.embedding_dim) == (path, 32, 16)
    assert (resolved.lr, resolved.dropout) == (3e-3, 0.1)
    assert Config(backbone=path, dropout=0.5, image_size=64).resolved().dropout == 0.5
    with pytest.raises(InputError, match=r"\A--image-size 16 is out of range; use 32 to 1024\Z"):
        Config(backbone=network(tmp_path, ("image_size=32", "image_size=16"))).resolved()


def test_a_network_that_takes_no_dropout_is_given_none(tmp_path):
    path = network(tmp_path, (", dropout=0.1", ""), ("nn.Dropout(dropout)", "nn.Identity()"))
    assert Config(backbone=path).resolved().dropout == Config(backbone=path, dropout=0.0).resolved().dropout == 0
    with pytest.raises(
        InputError, match=r"\A--dropout 0.5 has no effect: [^\n]*my_net.py takes no dropout; drop --drop"
    ):
        Config(backbone=path, dropout=0.5).resolved()


def test_the_ranges():
    assert {name: (one.low, one.high) for name, one in SETTINGS.items() if one.low is not None} == RANGES


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_in_it_and_what_is_beyond_is_refused(name):
    low, high = RANGES[name]
    option, engine = "--" + name.replace("_", "-"), "ray" if name == "gpus_per_run" else "local"
    base = Config(until_settled=name in ("max_repeats", "max_minutes"), engine=engine)
    for value in (low, high):
        assert getattr(replace(base, **{name: value}).resolved(), name) == value
    for value in (low - 1, low - 1e-9, high + 1, high * 1.01, float("nan")):
        with pytest.raises(InputError, match=rf"\A{option} \S+ is out of range; use {low} to {high}\Z"):
            replace(base, **{name: value}).resolved()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"select": "best"}, "--select 'best' is not known; use 'last' or 'val'"),
        ({"pretrained": "casia"}, "--pretrained 'casia' is not known; use 'imagenet', or a file that ends in .safet"),
        ({"pretrained": "casia.pth"}, "--pretrained: no file 'casia.pth'"),
        ({"pretrained": "casia.npz"}, "--pretrained 'casia.npz' is not known; use 'imagenet', or a file that ends in "),
        ({"pretrained": "x" * 300}, "--pretrained 'x+[.]{3}' is longer"),
        ({"backbone": "resnet19"}, "did you mean 'resnet18'"),
        ({"optimizer": "adam"}, "--optimizer 'adam' is not known; use 'adamw' or 'sgd'"),
        ({"schedule": "linear"}, "--schedule 'linear' is not known; use cosine, poly, or epochs as in step:10,18"),
        ({"schedule": "step:10,18", "epochs": 18}, "--schedule step:10,18 changes nothing after epoch 18 of 18; name "),
        ({"flip": True}, "--flip applies to verification pairs only; add --pairs"),
        ({"out": "x" * 300}, "--out 'x+[.]{3}' is longer"),
        ({"data": "x" * 300}, "--data 'x+[.]{3}' is longer"),
        ({"pairs": "x" * 300}, "--pairs 'x+[.]{3}' is longer"),
        ({"plugins": ("x" * 300,)}, "--plugins 'x+[.]{3}' is longer"),
        ({"out": "/".join("x" * 200 for _ in range(30))}, "--out 'x+[.]{3}' is longer"),
    ],
)
def test_what_does_not_fit_is_one_line(given, says):
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        Config(**given).resolved()


@pytest.mark.parametrize("name", ["try1", "a b", "Größe", ".hidden", "-1", "x" * 200, "ü" * 100])
def test_a_benchmark_is_named(name):
    config = Config(data="some/faces", name=name).resolved()
    assert (config.benchmark, config.data_name) == (name, "faces")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a/b", "cannot name a folder"),
        ("/a", "cannot name a folder"),
        ("a\\b", "cannot name a folder"),
        (".", "cannot name a folder"),
        ("..", "cannot name a folder"),
        ("", "cannot name a folder"),
        ("  ", "cannot name a folder"),
        ("a\nb", "cannot name a folder"),
        ("a\0", "cannot name a folder"),
        ("a\x7f", "cannot name a folder"),
        ("a\udcff", "cannot name a folder"),
        ("x" * 201, "is too long"),
        ("ü" * 101, "is too long"),
    ],
)
def test_a_name_that_no_folder_can_have_is_refused(name, says):
    with pytest.raises(InputError, match=rf"\A--name '[^\n]*' {says}; use a plain folder name [^\n]+\Z"):
        Config(name=name).resolved()


def test_without_a_name_a_benchmark_is_called_as_its_data(tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "faces")
    assert [Config(data=data).benchmark for data in ("orl", "a/faces/", ".", "../x")] == ["orl", "faces", "faces", "x"]


def test_every_setting_says_what_it_touches():
    assert settings_touching("measuring") == ("pairs", "flip", "fpr")
    neither = {
        "losses",
        "plugins",
        "deconfound",
        "data",
        "repeats",
        "out",
        "name",
        "log_to",
        "device",
        "pixels",
        "jobs",
        "threads",
        "engine",
        "ray_address",
        "gpus_per_run",
    }
    neither |= {"smallest_difference", "until_settled", "max_repeats", "max_minutes", "keep_embeddings"}
    assert set(settings_touching("neither")) == neither
    assert set(settings_touching("training")) == set(SETTINGS) - neither - {"pairs", "flip", "fpr"}
    assert list(SETTINGS) == list(inspect.signature(Config).parameters)
    with pytest.raises(TypeError, match="touches"):
        setting(3, help="A new one.", group="Training")
    with pytest.raises(TypeError, match="touches is 'everything'; use training, measuring, neither"):
        setting(3, help="A new one.", group="Training", touches="everything")


@pytest.mark.parametrize("given", ["tensorboard,wandb", ["tensorboard,wandb"], ["tensorboard", "wandb"]])
def test_loggers_are_a_list_or_have_commas(given):
    assert typed({"log_to": given}, "here") == {"log_to": ("tensorboard", "wandb")}


def test_what_is_written_is_read_again(tmp_path):
    config = Config(**OTHER)
    assert all(getattr(config, name) != getattr(Config(), name) for name in SETTINGS)
    for written in (config, Config(), Config().resolved()):
        (tmp_path / "bench.toml").write_text(to_toml(written, {"lossbench": "1"}), encoding="utf-8")
        assert Config(**read_config(tmp_path / "bench.toml")) == written


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((), ()),
        ((1e-4, 0.01, 1e-3), (0.01, 1e-3, 1e-4)),
        ((1e-12, 0.999999), (0.999999, 1e-12)),
        ((0.12345678,), (0.123457,)),
    ],
)
def test_false_positive_rates_are_sorted_and_say_what_their_keys_say(given, found):
    assert Config(fpr=given).resolved().fpr == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((0.0,), "--fpr 0.0 is out of range; use rates from 1e-12 to below 1"),
        ((1.0,), "--fpr 1.0 is out of range"),
        ((0.1, -0.1), "--fpr -0.1 is out of range"),
        ((1e-13,), "--fpr 1e-13 is out of range"),
        ((0.99999999,), "--fpr 0.99999999 is out of range"),
        ((float("nan"),), "--fpr nan is out of range"),
        ((float("inf"),), "--fpr inf is out of range"),
        ((0.1, 0.01, 0.1), "--fpr has 0.1 twice; name each rate once"),
        ((0.1, 0.1000000001), "--fpr has 0.1 twice; name each rate once"),
    ],
)
def test_a_rate_that_is_none_is_one_line(given, says):
    with pytest.raises(InputError, match=rf"\A{says}[^\n]*\Z"):
        Config(fpr=given).resolved()


def test_settings_import_nothing_heavy():
    code = "import sys, lossbench.config; print({'torch', 'numpy', 'PIL', 'tomllib', 'hashlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"losses": "ce,"}, "--losses 'ce,': item 2 of 2 is empty"),
        ({"losses": ["ce", "", "arcface"]}, "--losses 'ce,,arcface': item 2 of 3 is empty"),
        ({"losses": "ce, ,arcface"}, "--losses 'ce, ,arcface': item 2 of 3 is empty"),
        ({"log_to": ["tensorboard,"]}, "--log-to 'tensorboard,': item 2 of 2 is empty"),
        ({"log_to": [",wandb"]}, "--log-to ',wandb': item 1 of 2 is empty"),
        ({"schedule": "step:1,"}, "--schedule 'step:1,': item 2 of 2 is empty"),
    ],
)
def test_an_empty_item_of_a_list_is_named_in_every_list(given, says):
    with pytest.raises(InputError, match=rf"\A{re.escape(says)}; drop a comma, or write what is missing\Z"):
        Config(**typed(given, "here")).resolved()


def test_blanks_around_the_items_of_a_list_do_not_matter():
    given = typed({"losses": " ce , arcface", "log_to": ["tensorboard, wandb "]}, "here")
    assert given["log_to"] == ("tensorboard", "wandb")
    Config(**given).resolved()
