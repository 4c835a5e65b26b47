"""Embedding very many images from the packed store against bare forward passes over tensors already there, in turn.

    python tests/perf/evaluation.py [--images 12000] [--pairs 21]

The images are the ORL faces, repeated; the batches of the bare passes, one after the other on all threads, are of the
size that embed chooses, or of --batch. Goal: 0.95.
"""

import time

import torch
from paired import arguments, config_of, faces_of, in_turn, pixels_of, ratio

from lossbench.data.batches import to_images
from lossbench.data.faces import Part
from lossbench.evaluation.embed import batching, embed
from lossbench.training.seeds import initial_backbone
from lossbench.utils.device import be_deterministic
from lossbench.utils.memory import keep_freed_memory


def main() -> None:
    keep_freed_memory()
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=12_000)
    parser.set_defaults(pairs=21, batch=None)
    options = parser.parse_args()
    stored = pixels_of(faces_of(None, None, options)[0], options)
    pixels = stored.repeat(-(-options.images // len(stored)), 1, 1, 1)[: options.images]
    size, at_a_time = batching(len(pixels), pixels)
    options.batch = options.batch or size
    be_deterministic(pixels.device)
    backbone = initial_backbone(config_of(options, 1), 0).to(pixels.device).to(memory_format=torch.channels_last).eval()
    part = Part(tuple(range(len(pixels))), (0,) * len(pixels), ("",))
    batches = [to_images(pixels[rows]) for rows in torch.arange(len(pixels)).to(pixels.device).split(options.batch)]

    def bare() -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            torch.cat([backbone(batch) for batch in batches]).sum().item()
        return len(pixels) / (time.perf_counter() - start)

    def embedding() -> float:
        start = time.perf_counter()
        embed(backbone, pixels, part).sum().item()
        return len(pixels) / (time.perf_counter() - start)

    ours, theirs = in_turn(options.pairs, embedding, bare)
    print(
        f"{options.backbone}, {options.side} px, {len(pixels)} images, {pixels.device}, "
        f"{torch.get_num_threads()} threads; embed: {at_a_time} batches of {size} at a time, "
        f"bare: batches of {options.batch}"
    )
    for name, found in (("embed", ours), ("bare", theirs)):
        print(f"{name:>12}: {sorted(found)[len(found) // 2]:,.0f} images/s")
    print(f"embed / bare: {ratio(ours, theirs)}")


if __name__ == "__main__":
    main()
