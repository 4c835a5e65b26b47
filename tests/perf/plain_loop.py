"""Training images/s of lossbench against the loop most people write, or pytorch-metric-learning's trainer, in turn.

    python tests/perf/plain_loop.py TRAIN_FOLDER                     # ImageFolder, PIL transforms, DataLoader, .item()
    python tests/perf/plain_loop.py TRAIN_FOLDER --workers 2
    python tests/perf/plain_loop.py TRAIN_FOLDER --against pml       # MetricLossOnly with its ArcFaceLoss

Same images, net, batch size and AdamW; each side in a process of its own, each measurement an epoch over the files.
lossbench decodes the files once, which the printed seconds say; they are in no ratio. Goal: 1.7 against the plain loop
with `tiny` at 64 px on two cores.
"""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import torch
from paired import (
    SPEC,
    Contender,
    answer,
    arguments,
    config_of,
    faces_of,
    in_turn,
    pixels_of,
    ratio,
    trained_images_per_second,
)

from lossbench.training.seeds import initial_backbone, initial_head


def image_folder(options):
    from torch.utils.data import Subset
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.Resize((options.side, options.side)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(brightness=0.2, contrast=0.2),
            transforms.RandomAffine(10, translate=(0.06, 0.06), scale=(0.9, 1.1)),
            transforms.ToTensor(),
        ]
    )
    data = datasets.ImageFolder(str(options.folder), transform)
    people = options.people or len(data.classes)
    return Subset(data, [i for i, label in enumerate(data.targets) if label < people]), people


def plain(options) -> Callable[[], float]:
    data, people = image_folder(options)
    loader = torch.utils.data.DataLoader(data, options.batch, shuffle=True, num_workers=options.workers, drop_last=True)
    config = config_of(options, 1)
    net = initial_backbone(config, 0).to(options.device)
    head = initial_head(config, SPEC, 0, people).to(options.device)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=config.lr)

    def epoch() -> float:
        total = 0.0
        start = time.perf_counter()
        for images, labels in loader:
            images, labels = images.to(options.device), labels.to(options.device)
            loss = head(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return len(loader) * options.batch / (time.perf_counter() - start)

    return epoch


def pml(options) -> Callable[[], float]:
    from pytorch_metric_learning.losses import ArcFaceLoss
    from pytorch_metric_learning.trainers import MetricLossOnly

    data, people = image_folder(options)
    config = config_of(options, 1)
    net = initial_backbone(config, 0).to(options.device)
    loss = ArcFaceLoss(people, config.embedding_dim).to(options.device)
    steps = len(data) // options.batch
    trainer = MetricLossOnly(
        models={"trunk": net, "embedder": torch.nn.Identity()},
        optimizers={
            "trunk_optimizer": torch.optim.AdamW(net.parameters(), lr=config.lr),
            "metric_loss_optimizer": torch.optim.AdamW(loss.parameters(), lr=config.lr),
        },
        batch_size=options.batch,
        loss_funcs={"metric_loss": loss},
        dataset=data,
        data_device=torch.device(options.device),
        iterations_per_epoch=steps,
        dataloader_num_workers=options.workers,
    )

    def epoch() -> float:
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            trainer.train()
        return steps * options.batch / (time.perf_counter() - start)

    return epoch


def lossbench(options) -> Callable[[], float]:
    files, split = faces_of(options.folder, options.people, options)
    pixels = pixels_of(files, options)
    config = config_of(options, 1)
    return lambda: trained_images_per_second(config, split, pixels)


SIDES = {"lossbench": lossbench, "plain": plain, "pml": pml}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, help="only the first N")
    parser.add_argument("--workers", type=int, default=0, help="of the other side's DataLoader")
    parser.add_argument("--against", choices=("plain", "pml"), default="plain")
    parser.add_argument("--only", choices=SIDES, help="be one side and measure once per line of standard input")
    options = parser.parse_args()
    if options.only:
        answer(SIDES[options.only](options))
        return
    start = time.perf_counter()
    files, _ = faces_of(options.folder, options.people, options)
    pixels_of(files, options)
    decoding = time.perf_counter() - start
    sides = [Contender("lossbench"), Contender(options.against)]
    ours, theirs = in_turn(options.pairs, *sides)
    for side in sides:
        side.close()
    print(
        f"{options.backbone}, {options.side} px, batch {options.batch}, {len(files)} images, {options.device}, "
        f"{torch.get_num_threads()} threads, {options.workers} workers; decoding once takes {decoding:.1f} s"
    )
    for name, found in (("lossbench", ours), (options.against, theirs)):
        print(f"{name:>12}: {sorted(found)[len(found) // 2]:,.0f} images/s")
    print(f"lossbench / {options.against}: {ratio(ours, theirs)}")


if __name__ == "__main__":
    main()
