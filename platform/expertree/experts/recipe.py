"""The recipe of an expert's training: settings, and pure functions of the samples seen."""

import dataclasses
from typing import Any, Literal

from expertree.config import fingerprint
from expertree.experts.adapter import AdapterConfig
from expertree.experts.backbones import BACKBONES, BackboneConfig, phased
from expertree.experts.published import PublishedWeights
from expertree.storage import Storage
from expertree.training import rate_share

Loss = Literal["l1", "charbonnier", "l1_fft", "psnr"]
Precision = Literal["float32", "bfloat16"]
Start = Literal["identity", "random"]
OptimizerName = Literal["adamw", "muon"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PatchStage:
    """A part of the training with patches and batches of another size.

    Attributes:
        from_fraction: Share of the samples after which it begins, in (0, 1).
        patch_px: Side of the crops.
        batch_size: Samples in a step.
    """

    from_fraction: float
    patch_px: int
    batch_size: int

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range; it names the field and the value."""
        if not 0.0 < self.from_fraction < 1.0:
            raise ValueError(f"from_fraction must lie in (0, 1), got {self.from_fraction}")
        for name in ("patch_px", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecipeConfig:
    """Settings of the training, without the network, the samples and their number."""

    batch_size: int = 4
    """Samples in a step. The paper has 8; with as few samples as a CPU sees, more steps gain more
    than larger ones."""

    patch_px: int = 64
    """Side of the crops that are trained on; the stored patches are at least as large."""

    progressive: tuple[PatchStage, ...] = ()
    """Later parts with other patches and batches, in order: Restormer's progressive learning, small
    patches in large batches first."""

    micro_batch_size: int | None = None
    """Samples that go through the network at once; gradients are summed up to the batch. Null: all
    of a batch, halved until it fits into memory."""

    precision: Precision = "float32"
    """Number format of multiplications; weights, their average and the optimiser stay float32.
    `bfloat16` pays on GPUs, and on processors with instructions for it (AMX)."""

    compile: bool = False
    """Whether to use torch.compile: faster steps, for minutes at the start of each lane."""

    augment: bool = True
    """Whether to flip samples and turn them by quarters at random."""

    fresh: bool = True
    """Whether to degrade the clean patch anew each time a sample is seen: same kind, same
    parameters, other noise, streaks or flakes. False shows the stored degraded patch each time."""

    start: Start = "identity"
    """Output of a network with fresh weights before its first step. `identity`: its input, as
    the last layer is zero. `random`: noise, by the last layer's usual initial weights. Ignored
    where training starts from another expert or from published weights."""

    loss: Loss = "psnr"
    """`l1` is the mean absolute error; `charbonnier` is sqrt(e^2 + 1e-6); `l1_fft` adds
    a twentieth of the mean absolute error of the Fourier transform; `psnr` is NAFNet's, the
    logarithm of each image's mean squared error: the others are dominated by haze and low light,
    whose errors are ten times larger."""

    optimizer: OptimizerName = "muon"
    """`adamw` for all weights; `muon` for those that mix channels, AdamW for the rest
    (`optimizers.py`)."""

    learning_rate: float = 2e-3
    """AdamW's learning rate at the end of the warm-up."""

    matrix_learning_rate: float = 0.015
    """Muon's learning rate, which rises and falls with `learning_rate`."""

    final_learning_rate_ratio: float = 1e-3
    """Learning rate at the end of the cosine, as a share of `learning_rate`."""

    warmup_samples: int = 200
    """Samples until the full learning rate, from zero, linearly; at most a fifth of a phase where a
    network is trained in several."""

    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averaging of the gradient and of its square."""

    weight_decay: float = 0.0
    """Share of each weight that a step of rate 1 takes away."""

    grad_clip: float = 1.0
    """Largest norm of the whole gradient; 0 does not clip."""

    ema_decay: float = 0.99
    """Share of the old average kept at each step, less at first; the averaged weights become the
    expert. 0 keeps no average."""

    checkpoint_every_samples: int = 2048
    """Samples between checkpoints: the most that an interruption can cost."""

    num_threads: int = 1
    """Threads of torch on a CPU. Part of the recipe: sums are split by threads, so it changes
    rounding."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range or `progressive` parts out of order.

        The message names the field and the value.
        """
        for name in ("batch_size", "patch_px", "checkpoint_every_samples", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")
        starts = [stage.from_fraction for stage in self.progressive]
        if starts != sorted(set(starts)):
            raise ValueError(
                f"progressive: each part must begin after the one before, got {starts}"
            )
        for name in ("learning_rate", "matrix_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    @property
    def largest_patch_px(self) -> int:
        """Side of the largest crops that are trained on."""
        return max([self.patch_px, *(stage.patch_px for stage in self.progressive)])


PAPER_RECIPE = RecipeConfig(
    batch_size=8,
    fresh=False,
    start="random",
    loss="l1",
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_samples=0,
    ema_decay=0.0,
)
"""The paper's recipe, at the rate that suits a small network and few samples: `bench=recipe`
measures others against it, and experts were trained by it before 0.1."""


_SIZES_ONCE_SHARED = (
    *("width", "encoder", "middle", "decoder", "heads", "refinement", "expansion", "norm_bias"),
    *("stages", "prompts", "prompt_widths", "prompt_px"),
)
"""Keys in the fingerprint of every job, whatever its network; new sizes are not added."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertJob:
    """All that an expert's weights depend on, besides its patches.

    Attributes:
        key: Name of the result; it only appears in messages and in `expert.json`.
        backbone: The network.
        recipe: Settings of its training.
        num_samples: Samples to see, counted with repetition.
        seed: Seed of initial weights, order, crops and flips.
        init: URI of the directory of an expert whose weights to start from.
        published: A file of weights to start from, in place of `init`.
        adapter: Settings of an adapter that is trained on the unchanged weights of `init`; None
            trains all weights.
        extractor: URI of the extractor that finds what the network is told; None where it is told
            nothing that one finds, or nobody does.
    """

    key: str
    backbone: BackboneConfig
    recipe: RecipeConfig
    num_samples: int
    seed: int
    init: str | None = None
    published: PublishedWeights | None = None
    adapter: AdapterConfig | None = None
    extractor: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for `init` together with `published`, or an adapter that cannot be."""
        if self.init is not None and self.published is not None:
            raise ValueError(
                f"expert {self.key} cannot start from {self.init} and {self.published}"
            )
        if self.adapter is not None and not BACKBONES[self.backbone.name].adaptable:
            raise ValueError(
                f"expert {self.key} cannot be an adapter: {self.backbone.name} has low-rank "
                "experts of its own"
            )
        if self.adapter is not None and self.init is None:
            raise ValueError(f"expert {self.key} is an adapter; give its root as init")

    @property
    def fingerprint(self) -> str:
        """The name of the job by its content.

        What it starts from and who tells it are named as in their store, wherever that is reached.
        A job without an adapter has the name that it had before adapters existed, one without an
        extractor that of before networks were told anything, one that begins with its network's
        first phase that of before any began with the last, and every network
        the nulls for sizes of others that it had when all shared one config, so that older
        checkpoints are still used.
        """
        content = dataclasses.asdict(self)
        for name in ("init", "extractor"):
            if content[name] is not None:
                content[name] = Storage(content[name]).name
        if self.published is not None:
            content["published"] = self.published.sha256
        return self._named(content)

    @property
    def earlier_fingerprints(self) -> frozenset[str]:
        """The names that checkpoints of the job may have from before, with whole URIs in them."""
        return frozenset({self._named(dataclasses.asdict(self))})

    def _named(self, content: dict[str, Any]) -> str:
        content["backbone"] = dict.fromkeys(_SIZES_ONCE_SHARED) | content["backbone"]
        if self.adapter is None:
            del content["adapter"]
            if self.init is not None and phased(self.backbone):
                content["phases"] = "last"
        if self.extractor is None:
            del content["extractor"]
        return fingerprint(content)


def sizes_at(recipe: RecipeConfig, num_seen: int, num_samples: int) -> tuple[int, int]:
    """Return patch side and batch size of the step after `num_seen` of `num_samples`."""
    for stage in reversed(recipe.progressive):
        if num_seen >= stage.from_fraction * num_samples:
            return stage.patch_px, stage.batch_size
    return recipe.patch_px, recipe.batch_size


def rate_share_at(
    recipe: RecipeConfig, num_seen: int, num_samples: int, *, warmup: int | None = None
) -> float:
    """Return the factor on the learning rates in the step after `num_seen` of `num_samples`.

    Linear warm-up, then half a cosine to `final_learning_rate_ratio`.

    Args:
        recipe: The recipe.
        num_seen: Samples before the step.
        num_samples: All samples.
        warmup: Samples until the full rate; by default `recipe.warmup_samples`.
    """
    return rate_share(
        num_seen,
        num_samples,
        step=recipe.batch_size,
        warmup=recipe.warmup_samples if warmup is None else warmup,
        last=recipe.final_learning_rate_ratio,
    )
