"""The two properties that take seconds: torch.compile, and overfitting 64 real faces."""

import os
import shutil
import time

import torch
from torch import Tensor, nn

from lossbench.conformance.invariances import draws
from lossbench.conformance.probe import Subject, loss_and_gradient, scene
from lossbench.conformance.property import Broken, Skipped, named
from lossbench.losses.head import Head
from lossbench.losses.loading import load_head

FACES, PIXELS = 64, 32
_MINUTE, _STEPS = 60.0, 100  # at least these many steps, however busy the machine is


@named("torch.compile", slow=True)
def compiles(s: Subject) -> str:
    """The compiled head gives the same loss and gradient; it may leave parts to Python, such as blocks over classes."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")):
        raise Skipped("this machine has no C++ compiler, which torch.compile needs on the CPU")
    head = s.laid_out(dtype=torch.float32)
    x, labels = scene(head)
    x = x.float()
    head.train(head.training and not draws(head, x, labels))  # compiled code draws its random numbers in another order
    want, gradient = loss_and_gradient(head, x, labels)
    variable = x.clone().requires_grad_()
    torch._dynamo.reset()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = torch.compile(head)(variable, labels)
    found = torch.autograd.grad(loss, variable)[0]
    error = max(_relative(loss.detach(), want), _relative(found, gradient))
    if not error <= 1e-4:
        raise Broken(f"compiled, loss or gradient differ by {error:.1e} (relative)")
    return f"relative error {error:.1e}"


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-6))


@named("overfits 64 faces", slow=True)
def overfits(s: Subject) -> str:
    """The tiny backbone with this head learns 64 ORL images to 100 %, in seconds on an idle machine."""
    from lossbench.data.batches import to_images
    from lossbench.data.catalogue import open_data
    from lossbench.data.images.store import open_store
    from lossbench.models.backbones import build_backbone

    faces = open_data("orl")
    part = faces.split(0).train
    rows, labels = torch.tensor(part.rows[:FACES]), torch.tensor(part.labels[:FACES])
    images = to_images(torch.from_numpy(open_store(faces.files, PIXELS).pixels)[rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone("tiny").to(memory_format=torch.channels_last)
        head = load_head(s.spec, num_classes=int(labels.max()) + 1, embedding_dim=128)
        optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=3e-3)
        start, steps, best = time.monotonic(), 0, 0.0
        while time.monotonic() - start < _MINUTE or steps < _STEPS:
            backbone.train()
            head.train()
            for _ in range(10):
                loss = head(backbone(images), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                steps += 1
            best = max(best, _accuracy(backbone.eval(), head.eval(), images, labels))
            if best == 1:
                return f"100 % after {steps} steps, {time.monotonic() - start:.0f} s"
    raise Broken(f"{best:.1%} after {steps} steps: it does not even learn the images it is trained on")


@torch.no_grad()
def _accuracy(backbone: nn.Module, head: Head, images: Tensor, labels: Tensor) -> float:
    from lossbench.metrics import logit_accuracy, nearest_mean_accuracy

    x = backbone(images)
    logits = head.logits(x)
    return nearest_mean_accuracy(x, labels, x, labels) if logits is None else logit_accuracy(logits, labels)
