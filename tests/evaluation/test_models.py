"""A run's model gives the embeddings of its backbone, part by part, and mirrored images added."""

import torch
from support import run_of

from lossbench.data.faces import Part
from lossbench.data.images.store import open_store
from lossbench.data.tree import read_images
from lossbench.evaluation.models import run_model, whole
from lossbench.results.store import find_run
from lossbench.results.weights import load_backbone


def test_a_run_gives_what_its_backbone_gives_and_the_mirrored_image_added(trained, tree):
    record = find_run(run_of(trained, "ce"))
    files, _ = read_images(tree / "query")
    pixels = torch.from_numpy(open_store(files, 32).pixels).permute(0, 3, 1, 2).float() / 255
    backbone = load_backbone(record)
    with torch.no_grad():
        plain, mirrored = backbone(pixels), backbone(pixels.flip(3))
    model = run_model(record, device=torch.device("cpu"))
    (found,) = model.embed(files, [whole(files)])
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    (both,) = model.embed(files, [whole(files)], flip=True)
    torch.testing.assert_close(both, plain + mirrored, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, mirrored, atol=1e-3)
    some, rest = model.embed(files, [Part((5, 0), (0, 0), ("",)), Part((1,), (0,), ("",))])
    torch.testing.assert_close(some, plain[[5, 0]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rest, plain[[1]], rtol=1e-4, atol=1e-5)
    assert model.source == run_of(trained, "ce")
