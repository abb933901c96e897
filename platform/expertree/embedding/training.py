"""Train the extractor against degree captions, with exact resume after a kill."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from expertree.config import fingerprint
from expertree.embedding.artefact import save_extractor
from expertree.embedding.captions import CaptionTower
from expertree.embedding.checkpoints import delete_checkpoints, newest_checkpoint, save_checkpoint
from expertree.embedding.extractor import Extractor, ExtractorConfig, Patches, build_extractor
from expertree.embedding.heads import HEADS, logit_scale
from expertree.embedding.objective import multi_positive_loss
from expertree.embedding.recipe import (
    ExtractorRecipe,
    batch_at,
    crops_at,
    distinct,
    learning_rate_at,
)
from expertree.errors import ConfigError, PausedError, TrainingError
from expertree.storage import Storage

OnProgress = Callable[[dict[str, Any]], None]

_SECONDS_BETWEEN_REPORTS = 1.0
_OPTIMIZER = "optimizer"
_CONTENT = "content_captions.json"
_CAPTIONED_AT_ONCE = 32


def train_extractor(
    config: ExtractorConfig,
    patches: Patches,
    captions: Sequence[str],
    *,
    directory: Storage,
    seed: int,
    on_progress: OnProgress | None = None,
    device: str = "cpu",
) -> Extractor:
    """Train an extractor, or go on where a killed training stopped.

    Writes checkpoints into `directory`, and at the end the extractor (see `save_extractor`) and
    `log.json`: the loss of each step, and in the `controller` form what the content target was,
    `captions by BLIP` or `clean images`. On a CPU a resumed training ends in the same bytes as one
    that was never interrupted.

    Args:
        config: Network and recipe.
        patches: Degraded patches to learn from.
        captions: The degree caption of each.
        directory: Directory of checkpoints and result; nothing else may use it.
        seed: Seed of the weights, the batches and the crops.
        on_progress: Called about once a second, and at the end; see `train_expert`.
        device: Device to compute on.

    Returns:
        The trained extractor, text tower included, in evaluation mode.

    Raises:
        ValueError: If captions and patches do not match, or patches are smaller than the crops.
        ConfigError: If the network cannot be built, cannot take crops of that size, or BLIP's
            weights cannot be had.
        TrainingError: If the loss is not a number, or all captions are equal.
        StorageError: If the directory cannot be written.
    """
    if len(patches) != len(captions):
        raise ValueError(f"{len(patches)} patches cannot be trained with {len(captions)} captions")
    if len(set(captions)) < 2:
        raise TrainingError(
            f"the extractor learns from differences, but all {len(captions)} captions are equal"
        )
    recipe = config.recipe
    key = fingerprint([config, seed, list(captions)])
    with _threads(recipe.num_threads):
        state = _Training(config, patches, captions, seed, torch.device(device))
        if config.content_captions is not None:
            state.content_captions = _captioned(config, patches, directory, key, device)
        state.resume(newest_checkpoint(directory, key))

        def save(num_steps: int, now: _Training) -> None:
            save_checkpoint(directory, key, num_steps, now.tensors(), now.losses)

        _take_all(state, recipe, on_progress, save)
    extractor = state.extractor.eval().cpu()
    log = {"losses": state.losses, "content_target": state.content_target}
    directory.write_json("log.json", log)
    save_extractor(extractor, directory)
    delete_checkpoints(directory)
    return extractor


def _take_all(
    state: "_Training",
    recipe: ExtractorRecipe,
    on_progress: OnProgress | None,
    save: Callable[[int, "_Training"], None],
) -> None:
    """Take the steps that are left; save checkpoints at intervals, and before a pause."""
    pace = _Pace(on_progress, recipe, len(state.losses))
    for step in range(len(state.losses), recipe.num_steps):
        state.take(step)
        try:
            pace.report(state.losses)
        except PausedError:
            save(step + 1, state)
            raise
        if (step + 1) % recipe.checkpoint_every_steps == 0 and step + 1 < recipe.num_steps:
            save(step + 1, state)


class _Training:
    """Weights, optimiser and losses between two steps."""

    def __init__(
        self,
        config: ExtractorConfig,
        patches: Patches,
        captions: Sequence[str],
        seed: int,
        device: torch.device,
    ) -> None:
        self.recipe, self.patches, self.captions, self.seed = config.recipe, patches, captions, seed
        self.device = device
        self.content_captions: Sequence[str] | None = None
        self.extractor = build_extractor(config, seed=seed).to(device).train()
        _check_crops(self.extractor)
        self.losses: list[float] = []
        weights = [p for p in self.extractor.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in weights if p.ndim > 1]},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )

    def take(self, step: int) -> None:
        """Take one training step, on one batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.recipe, step)
        loss = self._loss(step)
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            raise TrainingError(
                f"the extractor's loss is {self.losses[-1]} at step {step + 1}; lower "
                f"learning_rate, which is {self.recipe.learning_rate}"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _loss(self, step: int) -> Tensor:
        rows = batch_at(self.recipe, step, num_patches=len(self.patches), seed=self.seed)
        crops = crops_at(self.patches.lq(rows), self.recipe, step, seed=self.seed)
        crops = crops.to(self.device).float() / 255.0
        captions = [self.captions[row] for row in rows]
        loss = HEADS[self.extractor.config.head].loss
        if self.extractor.content is None:
            with self._autocast():
                embeddings = self.extractor.encode(crops)
            return loss(embeddings, captions, self._tower())
        with self._autocast():
            embeddings, content = self.extractor.encode_both(crops)
        return loss(embeddings, captions, self._tower()) + self._content_loss(content, rows, step)

    def _content_loss(self, content: Tensor, rows: Sequence[int], step: int) -> Tensor:
        """Return the loss of content embeddings (paper 000, appendix A)."""
        tower = self._tower()
        if self.content_captions is not None:
            names, target_of = distinct([self.content_captions[row] for row in rows])
            targets = tower(names)
        else:
            keys, target_of = distinct([f"{row:09d}" for row in rows])
            first = [target_of.index(place) for place in range(len(keys))]
            clean = crops_at(self.patches.gt(rows), self.recipe, step, seed=self.seed)[first]
            with self._autocast():
                shown = self.extractor.encode_clean(clean.to(self.device).float() / 255.0)
            targets = F.normalize(shown, dim=-1)
        places = torch.tensor(target_of, device=self.device)
        return multi_positive_loss(content, targets, places, logit_scale(tower))

    @property
    def content_target(self) -> str | None:
        """The target of content embeddings in words; None where there are no such embeddings."""
        if self.extractor.content is None:
            return None
        return "captions by BLIP" if self.content_captions is not None else "clean images"

    def _autocast(self) -> torch.autocast:
        is_half = self.recipe.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)

    def _tower(self) -> CaptionTower:
        tower = self.extractor.captions
        if tower is None:
            raise ValueError("an extractor without a text tower cannot be trained")
        return tower

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state as named tensors."""
        found = {f"model.{n}": t.cpu().contiguous() for n, t in self.extractor.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, tensor in state.items():
                found[f"{_OPTIMIZER}.{index}.{name}"] = tensor.cpu().contiguous()
        return found

    def resume(self, checkpoint: tuple[int, dict[str, Tensor], list[float]] | None) -> None:
        """Restore the state from a checkpoint, if there is one."""
        if checkpoint is None:
            return
        _, tensors, self.losses = checkpoint
        self.extractor.load_state_dict(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        groups = self.optimizer.param_groups
        weights = [weight for group in groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(f"{_OPTIMIZER}."):
                _, index, field = name.split(".")
                state.setdefault(int(index), {})[field] = _laid_out_as(weights[int(index)], tensor)
        layout = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": layout})


def _check_crops(extractor: Extractor) -> None:
    recipe, side_px = extractor.config.recipe, extractor.fixed_px
    sides = {recipe.crop_px, recipe.last_crop_px or recipe.crop_px}
    if side_px is not None and sides != {side_px}:
        raise ConfigError(
            f"the image tower has learnt its positions for {side_px} px (view_px), but crop_px is "
            f"{recipe.crop_px} and last_crop_px {recipe.last_crop_px}; give crops of that side"
        )


def _captioned(
    config: ExtractorConfig, patches: Patches, directory: Storage, key: str, device: str
) -> list[str]:
    """Return BLIP's captions of the clean patches; the directory keeps them, as they take long."""
    from expertree.embedding.blip import caption_images  # noqa: PLC0415 - seconds, rarely needed

    if directory.exists(_CONTENT):
        found = directory.read_json(_CONTENT)
        if found["key"] == key:
            return list(found["captions"])
    starts = range(0, len(patches), _CAPTIONED_AT_ONCE)
    batches = (
        patches.gt(range(start, min(start + _CAPTIONED_AT_ONCE, len(patches)))) for start in starts
    )
    captions = caption_images(str(config.content_captions), batches, device=device)
    directory.write_json(_CONTENT, {"key": key, "captions": captions})
    return captions


def _laid_out_as(weight: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor of the optimiser's state in its weight's memory format.

    The fused step walks through both in memory's order, and safetensors knows one format only.
    """
    return tensor if tensor.shape != weight.shape else torch.empty_like(weight).copy_(tensor)


class _Pace:
    """Reports progress about once a second."""

    def __init__(
        self, on_progress: OnProgress | None, recipe: ExtractorRecipe, first_step: int
    ) -> None:
        self._on_progress, self._recipe = on_progress, recipe
        self._last_s, self._last_step = time.perf_counter(), first_step

    def report(self, losses: Sequence[float]) -> None:
        """Call `on_progress` if it is time, and after the last step."""
        now_s, step = time.perf_counter(), len(losses)
        due = now_s - self._last_s >= _SECONDS_BETWEEN_REPORTS or step == self._recipe.num_steps
        if self._on_progress is None or not due:
            return
        done = (step - self._last_step) * self._recipe.batch_size
        self._on_progress(
            {
                "samples": step * self._recipe.batch_size,
                "num_samples": self._recipe.num_steps * self._recipe.batch_size,
                "loss": losses[-1],
                "samples_per_s": done / max(now_s - self._last_s, 1e-9),
            }
        )
        self._last_s, self._last_step = now_s, step


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
