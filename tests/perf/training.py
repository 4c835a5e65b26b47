"""Training images/s of a real run against bare forward + backward + step on tensors already there, in turn.

    python tests/perf/training.py [TRAIN_FOLDER] [--people N] [--epochs 3]

Same net, head, batch size, images and optimiser. A real run pays for the order, gathering and converting the batch,
augmentation, the schedule and the summed loss; validation and checkpoints are outside its clock. Without a folder:
the 400 ORL faces. Goal: 0.95 without augmentation, whose share is printed beside it.

With ``--device cuda`` also the same run without CUDA graphs, and one graph of a bare step with augmentation, replayed
on one batch: the most that a captured step could reach. Goal: 0.8 of it. ``--graph`` measures nothing else.
"""

import statistics
import time
from pathlib import Path
from unittest.mock import patch

import torch
from paired import SPEC, arguments, config_of, faces_of, in_turn, pixels_of, ratio, trained_images_per_second

from lossbench.data.batches import augmentation_draws, epoch_order, to_images
from lossbench.training.seeds import initial_backbone, initial_head
from lossbench.training.step import Step, make_optimizer
from lossbench.utils.device import be_deterministic


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--people", type=int)
    parser.add_argument("--epochs", type=int, help="per measurement; 10 for ORL, else 1")
    parser.add_argument("--graph", action="store_true", help="a real run and one graph alone; needs a GPU")
    options = parser.parse_args()
    config = config_of(options, options.epochs or (1 if options.folder else 10))
    files, split = faces_of(options.folder, options.people, options)
    pixels = pixels_of(files, options)
    be_deterministic(pixels.device)
    order = epoch_order(torch.tensor(split.train.labels), options.batch, None, torch.Generator().manual_seed(0))
    labels = torch.tensor(split.train.labels)[order].to(pixels.device)
    batches = [to_images(pixels[rows.to(pixels.device)]) for rows in order[:40]]  # 40 of 64 at 64 px: 126 MB

    def bare() -> float:
        backbone = initial_backbone(config, 0).to(pixels.device).to(memory_format=torch.channels_last).train()
        head = initial_head(config, SPEC, 0, len(split.train.people)).to(pixels.device).train()
        optimizer = make_optimizer(backbone, head, config)
        start = time.perf_counter()
        for _ in range(config.epochs):
            for i in range(len(order)):
                with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=pixels.is_cuda):
                    embeddings = backbone(batches[i % len(batches)])
                loss = head(embeddings.float(), labels[i])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        loss.item()
        return config.epochs * order.numel() / (time.perf_counter() - start)

    def real() -> float:
        return trained_images_per_second(config, split, pixels)

    def without_augmentation() -> float:
        with patch("lossbench.training.step.augment", lambda images, draws: images):
            return trained_images_per_second(config, split, pixels)

    def without_graphs() -> float:
        with patch("lossbench.training.step.CudaRecorder", lambda device: None):
            return trained_images_per_second(config, split, pixels)

    def one_graph() -> float:
        backbone = initial_backbone(config, 0).to(pixels.device).to(memory_format=torch.channels_last).train()
        head = initial_head(config, SPEC, 0, len(split.train.people)).to(pixels.device).train()
        shape = (order.shape[1], *pixels.shape[1:])
        step = Step(backbone, head, make_optimizer(backbone, head, config), shape, pixels.device)
        draws = augmentation_draws(order.shape, torch.Generator().manual_seed(0))[0].to(pixels.device)
        step(pixels[: order.shape[1]], labels[0], draws, 1e-3)
        (replay,) = step._recorded
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(config.epochs * len(order)):
            replay()
        torch.cuda.synchronize()
        return config.epochs * order.numel() / (time.perf_counter() - start)

    if options.graph:
        ours, graph = in_turn(options.pairs, real, one_graph)
        print(f"real run: {statistics.median(ours):,.0f} images/s")
        print(f"real run / one graph, replayed: {ratio(ours, graph)}, goal 0.8")
        return
    on_gpu = (without_graphs, one_graph) if pixels.is_cuda else ()
    speeds = in_turn(options.pairs, bare, without_augmentation, real, *on_gpu)
    print(
        f"{options.backbone}, {options.side} px, batch {options.batch}, {len(order)} steps an epoch, {config.epochs} "
        f"epochs, {pixels.device}, {torch.get_num_threads()} threads"
    )
    names = (
        "bare steps",
        "real run without augmentation",
        "real run",
        "real run without graphs",
        "one graph, replayed",
    )
    for name, found in zip(names, speeds, strict=False):
        print(f"{name:>30}: {statistics.median(found):,.0f} images/s")
    print(f"real run without augmentation / bare: {ratio(speeds[1], speeds[0])}")
    share = statistics.median(1 - real / without for without, real in zip(*speeds[1:3], strict=True))
    print(f"augmentation's share of a real run: {share:.1%}; real run / without: {ratio(speeds[2], speeds[1])}")
    print(f"real run / bare: {ratio(speeds[2], speeds[0])}")
    if on_gpu:
        print(f"real run / the same without graphs: {ratio(speeds[2], speeds[3])}")
        print(f"real run / one graph, replayed: {ratio(speeds[2], speeds[4])}, goal 0.8")


if __name__ == "__main__":
    main()
