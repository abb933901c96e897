"""Benchmark of an expert's training on a lane against a bare PyTorch loop."""

import dataclasses
import statistics
import tempfile
import time
from typing import Any

import torch
from torch import Tensor

from expertree.config import to_dict
from expertree.degradation.parts import plan_patches
from expertree.degradation.photographs import BUNDLED_SOURCE, list_photographs
from expertree.degradation.table import DegradationConfig
from expertree.experts import ExpertJob, RecipeConfig, read_patches, train_expert
from expertree.experts.backbones import (
    PRESETS,
    Backbone,
    backbone_config,
    build_backbone,
    describe_backbone,
)
from expertree.orchestration.cluster import connect
from expertree.orchestration.lanes import train_all
from expertree.orchestration.runner import RayRunner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.make_patches import degrade
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training import LOG, Workers

PEAK_TERAFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L4": 121.0}
"""Peak dense bfloat16 teraflops of chips, by a part of their names, as their makers give it."""

_RATES = "rates.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The network and recipe to train, and the number of turns."""

    backbone: Backbone = backbone_config("nafnet_gopro")
    """The network: NAFNet of width 32 in its GoPro layout, the paper's LiteNAF."""

    recipe: RecipeConfig = RecipeConfig(
        patch_px=64, checkpoint_every_samples=128, optimizer="adamw"
    )
    """The recipe, with a checkpoint in each turn, 16 times as often as by default, and the bare
    loop's optimiser, so that the ratio is what the platform costs and not what Muon does; set
    `precision: bfloat16` and `compile: true` to measure what a GPU can do."""

    num_steps: int = 16
    """Steps in a turn."""

    num_turns: int = 4
    """Timed turns of each loop, the loops in turns, after one that is not counted."""

    use_gpu: bool = False
    """Whether to train on a GPU."""

    num_patches: int = 64
    """Training patches, degraded bundled photographs."""


def measure_training(config: TrainConfig) -> dict[str, Any]:
    """Run the loops in turns inside one lane; ratios are medians over turns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Storage.open(folder)
        cluster = ClusterConfig(num_lanes=1, use_gpu=config.use_gpu)
        with connect(cluster):
            _make_table(config, root.sub("table"))
            work = _Turns(config=config, root=root)
            task = TrainingTask(key="bench", label="bench=train", cost=1.0, work=work)
            train_all([task], config=cluster, directory=root.sub("lanes"), on_status=_ignore)
        found = root.read_json(_RATES)
    rates = {name: [turn[name] for turn in found["turns"]] for name in found["turns"][0]}
    ours = statistics.median(rates["ours"])
    num_flops = _flops_per_sample(config)
    peak = next((v for k, v in PEAK_TERAFLOPS.items() if k in (found["device"] or "")), None)
    return {
        "benchmark": "train",
        "ratio_vs_bare": _ratio(rates["ours"], rates["bare"]),
        "ratio_vs_plain_float32": _ratio(rates["ours"], rates["plain"]),
        "waited_share": round(statistics.median(rates["waited_share"]), 4),
        "samples_per_s": round(ours, 3),
        "bare_samples_per_s": round(statistics.median(rates["bare"]), 3),
        "plain_samples_per_s": round(statistics.median(rates["plain"]), 3),
        "teraflops": round(ours * num_flops / 1e12, 3),
        "share_of_peak": None if peak is None else round(ours * num_flops / 1e12 / peak, 4),
        "device": found["device"],
        "backbone": PRESETS.shorten(to_dict(config.backbone))["name"],
        "patch_px": config.recipe.patch_px,
        "batch_size": config.recipe.batch_size,
        "precision": config.recipe.precision,
        "compile": config.recipe.compile,
        "num_steps": config.num_steps,
        "num_turns": config.num_turns,
    }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Turns:
    """The turns of all loops, as the work of a lane."""

    config: TrainConfig
    root: Storage

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Run all turns and write their rates; see `work.Work.run`."""
        torch.set_num_threads(self.config.recipe.num_threads)
        plain = dataclasses.replace(self.config.recipe, precision="float32", compile=False)
        is_plain = plain == self.config.recipe
        turns = []
        for turn in range(self.config.num_turns + 1):
            ours, waited_share = self._ours(turn, on_progress, workers)
            bare = self._bare(self.config.recipe)
            rates = {"ours": ours, "bare": bare, "waited_share": waited_share}
            turns.append({**rates, "plain": bare if is_plain else self._bare(plain)})
        device = torch.cuda.get_device_name() if self.config.use_gpu else None
        self.root.write_json(_RATES, {"turns": turns[1:], "device": device})

    @property
    def _device(self) -> str:
        return "cuda" if self.config.use_gpu else "cpu"

    def _ours(self, turn: int, on_progress: OnProgress, workers: Workers) -> tuple[float, float]:
        """Return the expert's samples per second, checkpoints included, and the share it waited."""
        table, directory = self.root.sub("table"), self.root.sub(f"expert-{turn}")
        job = ExpertJob(
            key="bench",
            backbone=self.config.backbone,
            recipe=self.config.recipe,
            num_samples=self.config.num_steps * self.config.recipe.batch_size,
            seed=turn,
        )
        train_expert(
            job,
            patches=read_patches(table, table.list_files(".parquet")),
            directory=directory,
            on_progress=on_progress,
            device=self._device,
            workers=workers,
        )
        log = directory.read_json(LOG)
        return log["samples_per_s"], log["waited_share"]

    def _bare(self, recipe: RecipeConfig) -> float:
        """Return samples per second of a plain loop: data in memory, no checkpoints, no reports."""
        device = torch.device(self._device)
        network = build_backbone(self.config.backbone).to(device).train()
        called = torch.compile(network) if recipe.compile else network
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
        sides = (recipe.batch_size, 3, recipe.patch_px, recipe.patch_px)
        lq, gt = (torch.rand(sides, device=device) for _ in range(2))

        def step() -> Tensor:
            with torch.autocast(
                device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
            ):
                restored = called(lq)
            loss = torch.nn.functional.l1_loss(restored.float(), gt)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.grad_clip)
            optimizer.step()
            return loss.detach()

        begin = time.perf_counter()
        losses = [step() for _ in range(self.config.num_steps)]
        losses[-1].item()  # A GPU is waited for.
        return self.config.num_steps * recipe.batch_size / (time.perf_counter() - begin)


def _make_table(config: TrainConfig, table: Storage) -> None:
    sets = DegradationConfig(
        num_train=config.num_patches, patch_px=max(config.recipe.largest_patch_px, 16)
    ).patch_sets()
    photos, _ = list_photographs(BUNDLED_SOURCE, min_side_px=sets["train"].patch_px)
    plan = plan_patches(sets["train"], photos, seed=0)
    degrade(RayRunner(ClusterConfig()), [(plan, table)], lambda *_: None)


def _flops_per_sample(config: TrainConfig) -> float:
    """Return the operations of a forward and a backward pass, which takes twice as many."""
    scale = (config.recipe.patch_px / 512) ** 2
    return 3 * 2 * describe_backbone(config.backbone).multiply_adds_512 * scale


def _ratio(ours: list[float], other: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, other, strict=True)), 4)


def _ignore(picture: object) -> None:
    """Ignore a picture of the schedule."""
