"""One training step on static tensors: augmentation, forward, loss, backward, and the optimiser.

Every step copies its batch into the same tensors and works on those. On a GPU the step is recorded in CUDA graphs,
which read and write these tensors at every replay; on a CPU the same methods are called each time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.config import Config
from lossbench.data.batches import augment, to_images
from lossbench.losses.head import Head
from lossbench.training.attributes import Attributes, NotCopied
from lossbench.training.graph import CudaRecorder, Recorder, Work
from lossbench.training.snapshot import Snapshot
from lossbench.utils.text import described

How = Literal["eager", "whole", "split"]

_TRIED = 2  # steps: what is new in the second one was left by the first


class TrainingFailed(RuntimeError):
    """The run cannot continue; the message is its reason."""


def make_optimizer(backbone: nn.Module, head: Head, config: Config) -> torch.optim.Optimizer:
    """Return AdamW or SGD over all trainable parameters; weight decay acts on those of two dimensions or more alone.

    Its learning rate is a placeholder: every step sets its own. Its first group notes in ``moved`` whether a gradient
    has reached the backbone, so that checkpoints keep it.
    """
    parameters = [p for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # biases and normalisation
    ]
    groups[0]["moved"] = False
    if config.optimizer == "sgd":  # only the fused optimiser can be captured
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True if parameters[0].is_cuda else None)
    return torch.optim.AdamW(groups, lr=1.0, fused=True)


class Step:
    """Makes training steps for batches of one shape, and does not wait for the device.

    The backbone runs under autocast to bfloat16 on a GPU; the head always works in float32. On a GPU the first call
    decides `how`: ``whole``, all in one graph; ``split``, the head launched anew each time between two graphs, for
    heads that wait for the device or keep numbers outside buffers; ``eager``, no graph. The numbers are the same.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        optimizer: torch.optim.Optimizer,
        shape: Sequence[int],
        device: torch.device,
        *,
        recorder: Recorder | None = None,
        on_note: Callable[[str], None] = lambda note: None,
    ):
        """Make the static tensors, for modules and an optimiser whose state has been loaded.

        Args:
            backbone: images [B, 3, H, W] in 0..1 -> [B, D], in training mode.
            head: in training mode.
            optimizer: from `make_optimizer`. Its learning rate and ``moved`` become tensors.
            shape: B, H, W, 3 of every batch.
            device: of all of them.
            recorder: what records the step; by default CUDA graphs on a GPU, and nothing elsewhere.
            on_note: called with one line where nothing can be recorded.
        """
        self.backbone, self.head, self.optimizer, self.device = backbone, head, optimizer, device
        self.images = torch.zeros(tuple(shape), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(shape[0], dtype=torch.int64, device=device)
        self.draws = torch.zeros(7, shape[0], device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        # As precise as each optimiser takes it: on a CPU as a Python number would be.
        self.lr = torch.zeros((), dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)
        first = optimizer.param_groups[0]
        self.moved = first["moved"] = torch.tensor(bool(first["moved"]), device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.lr
        if isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["fused"]:
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        self.how: How = "eager"
        self.seconds_trying = 0.0  # since this was last set to 0: no part of what a step takes
        self._recorder = CudaRecorder(device) if recorder is None and device.type == "cuda" else recorder
        self._plans: tuple[How, ...] = ("whole", "split") if self._recorder else ()
        self._recorded: tuple[Work, ...] = ()
        self._fixed: _Fixed | None = None
        self._embeddings = self._gradient = torch.empty(0, device=device)
        self._on_note = on_note

    def __call__(self, images: Tensor, labels: Tensor, draws: Tensor, lr: float) -> Tensor:
        """Make one step and return its loss, detached: a scalar that the next step overwrites.

        Args:
            images: [B, H, W, 3] uint8, not augmented yet.
            labels: [B] int64.
            draws: [7, B], what `augment` draws for these images.
            lr: this step's learning rate.

        Raises:
            TrainingFailed: the loss is not one differentiable number.
        """
        self.images.copy_(images, non_blocking=True)
        self.labels.copy_(labels, non_blocking=True)
        self.draws.copy_(draws, non_blocking=True)
        self.lr.fill_(lr)
        if self.how == "whole" and self._fixed is not None and self._fixed.changed():
            self._plans = ("split",)  # what its graph would not see
        if self._recorder and self._plans:
            self._choose(self._recorder)
        self._play()
        return self.loss

    def whole(self) -> None:
        """Do a step on the static tensors."""
        embeddings = self._embed()
        loss = self._loss_of(embeddings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def forward(self) -> None:
        """Do the first part of a step: augmentation and backbone."""
        self._embeddings = self._embed()
        if self._gradient.shape != self._embeddings.shape:
            self._gradient = torch.zeros_like(self._embeddings)

    def head_alone(self) -> bool:
        """Do the second part: loss, backward to the embeddings, update of the head; return whether it used them."""
        embeddings = self._embeddings.detach().requires_grad_()
        loss = self._loss_of(embeddings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()  # of what has a gradient
        if embeddings.grad is not None:
            self._gradient.copy_(embeddings.grad)
        return embeddings.grad is not None

    def backward(self) -> None:
        """Do the third part: backward through the backbone, and its update."""
        self.optimizer.zero_grad(set_to_none=True)
        if self._embeddings.requires_grad:
            self._embeddings.backward(self._gradient)  # type: ignore[no-untyped-call]
        self._embeddings = self._embeddings.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _embed(self) -> Tensor:
        augmented = augment(to_images(self.images), self.draws)
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            embeddings: Tensor = self.backbone(augmented)
        return embeddings

    def _loss_of(self, embeddings: Tensor) -> Tensor:
        if embeddings.requires_grad:
            embeddings.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]
        loss = self.head(embeddings.float(), self.labels)
        if fault := loss_fault(loss):
            raise TrainingFailed(f"the loss must be one differentiable number, not {fault}")
        self.loss.copy_(loss.detach())
        checked: Tensor = loss
        return checked

    def _note_gradient(self, gradient: Tensor) -> None:
        self.moved.logical_or_(gradient.any())

    def _play(self) -> None:
        if self.how == "eager":
            self.whole()
        elif self.how == "whole":
            self._recorded[0]()
        else:
            self._recorded[0]()
            if self.head_alone():
                self._recorded[1]()

    def _choose(self, recorder: Recorder) -> None:
        """Set `how` to the first plan that gives the numbers of eager steps, all of which are taken back."""
        start = time.perf_counter()
        self.how, self._recorded = "eager", ()
        why = self._plan(recorder)
        self._plans = ()
        self.seconds_trying += time.perf_counter() - start
        if why:
            recorder.release()
            self._on_note(f"no CUDA graph can hold the training step ({why}); without one it is slower")

    def _plan(self, recorder: Recorder) -> str:
        """Try the plans in turn; return why none fits, or an empty text."""
        try:
            before = self._snapshot()
        except NotCopied as error:  # nothing has been tried yet
            return str(error)
        for _ in range(_TRIED):
            recorder.warm(self.whole)  # what it raises is the loss's own fault
        try:
            wanted = self._snapshot()
        except NotCopied as error:
            return str(error)
        finally:
            before.restore()
        why = ""
        for plan in self._plans:
            why = self._try(recorder, plan, before, wanted)
            if not why:
                break
            self.how, self._recorded = "eager", ()
            self._embeddings = self._gradient = torch.empty(0, device=self.device)  # or they hold a whole backward pass
        return why

    def _try(self, recorder: Recorder, plan: How, before: Snapshot, wanted: Snapshot) -> str:
        """Record one plan and return why it cannot be, or an empty text."""
        works = (self.whole,) if plan == "whole" else (self.forward, self.backward)
        try:
            for work in works:
                if refusal := recorder.refusal(work):
                    return refusal
            before.restore()
            with _capturable(self.optimizer):
                self._recorded = recorder.record(*works)
            self.optimizer.zero_grad(set_to_none=True)
            before.restore()  # recording has run the Python code of the modules
            self.how, self._fixed = plan, _Fixed(self.head)
            for _ in range(_TRIED):
                self._play()
            different = self._snapshot().difference(wanted)
        except Exception as error:  # the same work has succeeded: recording it is what fails
            return described(error)
        finally:
            before.restore()
        return f"replayed, {different} comes out different" if different else ""

    def _snapshot(self) -> Snapshot:
        modules = {"backbone": self.backbone, "head": self.head}
        return Snapshot(modules, self.optimizer, {"loss": self.loss, "moved": self.moved}, self.device)


class _Fixed:
    """What a graph takes over from the head as it is: where its tensors are, and its attributes."""

    def __init__(self, head: Head):
        self._attributes = Attributes({"head": head})
        self._places = self._now()

    def changed(self) -> bool:
        return self._now() != self._places or self._attributes.changed()

    def _now(self) -> list[tuple[int, bool]]:
        return [(tensor.data_ptr(), tensor.requires_grad) for tensor in self._attributes.tensors.values()]


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let AdamW be captured: fused, it always can, but it insists on being told, and warns where that is not used."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    try:
        for group in groups:
            group["capturable"] = True
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def loss_fault(loss: object) -> str:
    """Return what keeps `loss` from being one differentiable number, or an empty text."""
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.ndim:
        return f"of shape {list(loss.shape)}: end forward with .mean()"
    return "" if loss.requires_grad else "one without a gradient"
