"""Losses of pytorch-metric-learning as entrants: all of them, with that library's defaults, or the reason why not."""

import inspect
import warnings

import pytest
import pytorch_metric_learning.losses as library
import torch
from support import settings, trained

from lossbench import load_head
from lossbench.errors import InputError
from lossbench.losses import pml
from lossbench.losses.loading import hyperparameters
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

NEEDS = {"RankedListLoss": ":margin=0.4:Tn=0.5"}


def build(name: str, settings: str = ""):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_head(f"pml:{name}{settings or NEEDS.get(name, '')}", num_classes=5, embedding_dim=8)


def batch():
    torch.manual_seed(0)
    return torch.randn(16, 8, requires_grad=True), torch.arange(16) % 4


def test_every_loss_of_the_library_is_an_entrant_or_says_why_not():
    exported = {n for n in dir(library) if inspect.isclass(getattr(library, n))}
    assert exported == set(pml.names()) | (set(pml.REFUSED) & exported)
    for name in pml.REFUSED:
        with pytest.raises(InputError, match=f"pml:{name} cannot be an entrant: "):
            pml.describe(name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", pml.names())
def test_an_entrant_trains_and_says_which_batches_it_needs(name):
    head, (x, labels) = build(name), batch()
    loss = head(x, labels)
    loss.backward()
    assert loss.ndim == 0
    assert x.grad.isfinite().all()
    logits = head.logits(x)
    assert (logits is None) == (head.samples_per_class == 4)
    if logits is not None:
        assert logits.shape == (16, 5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", pml.names())
def test_every_loss_that_is_listed_trains_an_epoch(name, orl, pixels, tmp_path):
    """Several steps: one alone does not show what fails in the second backward pass."""
    split = orl.select(identities=10).split(0)
    found = trained(
        f"pml:{name}{NEEDS.get(name, '')}", split, pixels, tmp_path / "run", settings(epochs=1, batch_size=16)
    )
    assert found.steps >= 3


@pytest.mark.parametrize("name", [n for n in pml.names() if n not in NEEDS])
def test_defaults_are_the_librarys_own(name):
    """Read from source text; here compared with what the imported constructor says."""
    cls = getattr(library, name)
    real = {
        p.name: p.default for base in reversed(cls.__mro__) if "__init__" in vars(base)
        for p in inspect.signature(base.__init__).parameters.values() if p.default is not p.empty
    }  # fmt: skip
    shown = hyperparameters(parse_spec(f"pml:{name}", find_plugins()))
    assert shown == {key: real[key] for key in shown}
    own = inspect.signature(cls.__init__).parameters.values()
    assert {p.name for p in own if isinstance(p.default, bool | int | float | str)} <= set(shown)


def test_a_setting_reaches_the_library():
    torch.manual_seed(0)
    ours, (x, labels) = build("ArcFaceLoss", ":margin=11.5:scale=16"), batch()
    theirs = library.ArcFaceLoss(5, 8, margin=11.5, scale=16)
    theirs.W.data = ours.loss.W.data
    assert ours(x, labels).item() == theirs(x, labels).item()


@pytest.mark.parametrize(("setting", "delta"), [("", 0.02), (":n_bins=50", 0.04), (":delta=0.1", 0.1)])
def test_a_setting_without_a_default_can_be_given(setting, delta):
    assert [str(p) for p in pml.describe("HistogramLoss").parameters] == [
        "n_bins: number | None = None",
        "delta: number | None = None",
    ]
    assert load_head(f"pml:HistogramLoss{setting}", num_classes=5, embedding_dim=8).loss.delta == delta


def test_what_the_library_takes_as_objects_is_no_setting():
    names = {p.name for name in pml.names() for p in pml.describe(name).parameters if p.default == "None"}
    assert names == {"n_bins", "delta", "alpha"}


def test_degrees_are_labelled():
    assert [p.type for p in pml.describe("ArcFaceLoss").parameters if p.name == "margin"] == ["number (degrees)"]
    assert [p.type for p in pml.describe("CosFaceLoss").parameters if p.name == "margin"] == ["number"]


def test_arcface_is_ours_in_radians():
    """28.6479 degrees are half a radian: two libraries, one loss."""
    theirs, (x, labels) = build("ArcFaceLoss", ":margin=28.64788975654116"), batch()
    ours = load_head("arcface", num_classes=5, embedding_dim=8)
    ours.weight.data = theirs.loss.W.data.T.clone()
    assert ours(x, labels).item() == pytest.approx(theirs(x, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pml:ArcFaceLos", "no loss called 'ArcFaceLos'; did you mean 'ArcFaceLoss'"),
        ("pml:ArcFaceLoss:marg=3", "no hyper-parameter 'marg'; did you mean 'margin'"),
        ("pml:RankedListLoss", "needs a value for 'margin'"),
        ("pml:SphereFaceLoss:margin=abc", "must be a number, not 'abc'"),
    ],
)
def test_mistakes_are_one_line(spec, message):
    with pytest.raises(InputError, match=message) as error:
        load_head(spec, num_classes=5, embedding_dim=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "centers"),
    [
        ("ArcFaceLoss", lambda loss: loss.W.T),
        ("NormalizedSoftmaxLoss", lambda loss: loss.W.T),
        ("ProxyAnchorLoss", lambda loss: loss.proxies),
        ("ProxyNCALoss", lambda loss: loss.proxies),
        ("SphereFaceLoss", lambda loss: loss.W.T),
    ],
)
def test_scores_are_cosines_with_the_librarys_own_centers(name, centers):
    head, (x, _) = build(name), batch()
    rows = torch.nn.functional.normalize(centers(head.loss), dim=1)
    assert rows.shape == (5, 8)
    torch.testing.assert_close(head.class_centers(), rows.detach())
    torch.testing.assert_close(head.logits(x), torch.nn.functional.normalize(x, dim=1) @ rows.T)
    assert not head.class_centers().requires_grad


@pytest.mark.parametrize("name", ["SubCenterArcFaceLoss", "SoftTripleLoss"])
def test_of_several_centers_the_nearest_scores_and_none_is_the_classs(name):
    head, (x, _) = build(name), batch()
    columns = (head.loss.W if name.startswith("Sub") else head.loss.fc).detach()
    per_class = columns.shape[1] // 5
    assert per_class > 1
    cosines = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(columns, dim=0)
    torch.testing.assert_close(head.logits(x), cosines.view(16, 5, per_class).amax(2))
    assert head.class_centers() is None


def test_a_loss_without_classes_has_neither_scores_nor_centers():
    head, (x, _) = build("TripletMarginLoss"), batch()
    assert head.logits(x) is None
    assert head.class_centers() is None
    assert head.uses_norm


def test_what_is_known_of_a_loss():
    plugin = pml.describe("ArcFaceLoss")
    assert plugin.name == "pml:ArcFaceLoss"
    assert plugin.path.name == "arcface_loss.py"
    assert plugin.summary.startswith("Implementation of https://arxiv.org/pdf/1801.07698")
    assert pml.head_class("ArcFaceLoss").__name__ == "PmlArcFaceLoss"
    assert pml.head_class("ArcFaceLoss").margin_in_degrees
    assert not pml.head_class("CosFaceLoss").margin_in_degrees


def test_without_the_library_the_cure_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pytorch-metric-learning"):
        pml._folder()
