"""One of two processes that train an expert together: `train_together.py RANK COUNT FOLDER`."""

import sys

import torch.distributed as dist

from expertree.experts.backbones import BackboneConfig
from expertree.experts.patches import read_patches
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.training import train_expert
from expertree.experts.workers import Workers
from expertree.storage import Storage

RECIPE = RecipeConfig(
    batch_size=5, patch_px=16, grad_clip=0.05, ema_decay=0.9, checkpoint_every_samples=20
)
JOB = ExpertJob(
    key="e0",
    backbone=BackboneConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
    recipe=RECIPE,
    num_samples=61,
    seed=5,
)


def main(rank: int, count: int, folder: str) -> None:
    """Train on the patches in `folder/table`, into a directory named by `count`."""
    if count > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count
        )
    table = Storage.open(f"{folder}/table")
    result = train_expert(
        JOB,
        patches=read_patches(table, table.list_files(".parquet")),
        directory=Storage.open(f"{folder}/by-{count}"),
        workers=Workers(rank=rank, count=count),
    )
    sys.stdout.write(f"{result.sha256} {result.loss}\n")
    if count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
