"""Networks of one's own: read without being executed, built, and refused in one line."""

import pytest
import torch
from support import FORWARD, network, plugin

from lossbench.errors import InputError
from lossbench.models.backbones import backbone_info, backbone_name, build_backbone
from lossbench.models.network_file import build_network, output_fault, read_network, refuse_misfit

INIT = "def __init__(self, embedding_dim=16, *, image_size=32, dropout=0.1):"


def test_defaults_stand_in_the_source_which_is_not_executed(tmp_path):
    path = network(tmp_path, ("import torch\n", "raise SystemExit\n"))
    info = backbone_info(path)
    assert (info.image_size, info.embedding_dim, info.lr, info.dropout) == (32, 16, 3e-3, 0.1)
    assert backbone_name(path) == backbone_name("my_net") == "my_net"


def test_what_the_source_does_not_say_is_as_for_other_backbones(tmp_path):
    info = backbone_info(
        network(tmp_path, (INIT, "def __init__(self, embedding_dim, *, dropout):"), ("    lr = 3e-3", ""))
    )
    assert (info.image_size, info.embedding_dim, info.lr, info.dropout) == (112, 512, 1e-3, 0.2)


def test_a_network_is_given_what_it_takes(tmp_path):
    path = network(tmp_path, (INIT, "def __init__(self, embedding_dim, image_size=64, *, extra=1, dropout=0.3):"))
    net = build_backbone(path, embedding_dim=5, image_size=48, dropout=0.4)
    assert net.dropout.p == 0.4
    assert net(torch.rand(2, 3, 48, 48)).shape == (2, 5)
    bare = network(tmp_path, (INIT, "def __init__(self, embedding_dim):"), ("nn.Dropout(dropout)", "nn.Identity()"))
    assert read_network(tmp_path / "my_net.py").takes == {"embedding_dim"}
    assert backbone_info(bare).dropout is None
    assert build_backbone(bare, embedding_dim=5).embedding.out_features == 5


def test_a_file_counts_by_its_stem_and_a_taken_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\Aa backbone called 'tiny' exists already; rename [^\n]*tiny.py\Z"):
        backbone_info(network(tmp_path, name="tiny"))
    with pytest.raises(InputError, match=r"'my-net' cannot name a network; use lower-case"):
        backbone_info(network(tmp_path, name="my-net"))


@pytest.mark.parametrize(
    ("part", "other", "says"),
    [
        (
            "embedding_dim=16",
            "length=16",
            "must define exactly one public network, .* embedding_dim .*; it defines none",
        ),
        (
            "def __init__(self, inputs, outputs",
            "def __init__(self, inputs, outputs, embedding_dim=1",
            "defines Block, Net",
        ),
        ("embedding_dim=16, *", "embedding_dim=16, *, num_classes=3", "takes num_classes, as a loss does"),
        ("dropout=0.1", "depth", "needs a value for 'depth', which no setting gives; give it a default"),
        ("image_size=32", "image_size=2.5", "image_size is 2.5 by default; write a whole number there, such as 112"),
        ("image_size=32", "image_size=SIZE", "image_size is SIZE by default"),
        ("dropout=0.1", "dropout=1.5", "dropout is 1.5 by default; write a number up to 0.95"),
        ("lr = 3e-3", "lr = 'fast'", "lr is 'fast' by default"),
        ("class Net", "class Net(", "cannot be read"),
    ],
)
def test_a_file_without_a_network_is_one_line(tmp_path, part, other, says):
    with pytest.raises(InputError, match=rf"\A[^\n]*my_net.py[^\n]*{says}[^\n]*\Z"):
        backbone_info(network(tmp_path, (part, other)))


def test_a_loss_is_no_network(tmp_path):
    with pytest.raises(InputError, match=r"\A[^\n]*takes num_classes, as a loss does; name a loss in --losses[^\n]*\Z"):
        backbone_info(plugin(tmp_path, "mine", FORWARD))


@pytest.mark.parametrize(
    ("part", "other", "says"),
    [
        ("import torch\n", "import nowhere_to_be_found\n", "fails on import: ModuleNotFoundError"),
        ("Net(nn.Module)", "Net(dict)", "Net is no network; derive it from torch.nn.Module"),
        ("self.dropout =", "raise SystemExit(5)\n        self.dropout =", "cannot be built: SystemExit: 5"),
        ("self.dropout =", "assert image_size > 64\n        self.dropout =", r"image_size=32.*: AssertionError"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_line(tmp_path, part, other, says):
    path = network(tmp_path, (part, other))
    with pytest.raises(InputError, match=rf"\A[^\n]*my_net.py[^\n]*{says}[^\n]*\Z"):
        build_backbone(path)


@pytest.mark.parametrize(
    ("part", "other", "says"),
    [
        ("nn.Linear(16, embedding_dim)", "nn.Linear(16, 10)", r"must return embeddings \[B, 16\], not \[2, 10\]"),
        ("nn.Linear(16,", "nn.Linear(17,", r"fails on images \[2, 3, 32, 32\]: RuntimeError: mat1 and mat2"),
        ("return self.emb", "return 1, self.emb", "not a tuple"),
        ("- 1)))", "- 1))).long()", "not torch.int64"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(tmp_path, part, other, says):
    path = network(tmp_path, (part, other))
    file, sizes = read_network(tmp_path / "my_net.py"), {"embedding_dim": 16, "image_size": 32}
    with pytest.raises(InputError, match=rf"\A[^\n]*my_net.py[^\n]*{says}[^\n]*\Z"):
        refuse_misfit(file, build_network(file, **sizes, dropout=0.0), **sizes)
    assert path == str(file.path)


def test_a_network_that_fits_leaves_the_generator_alone(tmp_path):
    network(tmp_path)
    file, sizes = read_network(tmp_path / "my_net.py"), {"embedding_dim": 16, "image_size": 32}
    net, before = build_network(file, **sizes, dropout=0.5), torch.get_rng_state()
    refuse_misfit(file, net, **sizes)
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_no_embedding():
    assert output_fault(torch.zeros(1, 4), 1, 4) == ""
    assert output_fault(torch.zeros(2, 4, 1), 2, 4) == "[2, 4, 1] for 2 images"
    assert output_fault(None, 2, 4) == "a NoneType"


def test_there_are_no_imagenet_weights_for_ones_own(tmp_path):
    with pytest.raises(InputError, match="there are no ImageNet weights for 'my_net'"):
        build_backbone(network(tmp_path), pretrained="imagenet")
