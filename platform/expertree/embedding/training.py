"""Train the extractor against degree captions, with exact resume after a kill."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from expertree.config import fingerprint
from expertree.embedding.artefact import save_extractor
from expertree.embedding.captions import CaptionTower
from expertree.embedding.extractor import Extractor, ExtractorConfig, Patches, build_extractor
from expertree.embedding.heads import HEADS, logit_scale
from expertree.embedding.objective import multi_positive_loss
from expertree.embedding.recipe import (
    ExtractorRecipe,
    batch_at,
    crops_at,
    distinct,
    rate_share_at,
)
from expertree.errors import ConfigError, TrainingError
from expertree.storage import Storage
from expertree.training import (
    LOG,
    Checkpoints,
    OnNote,
    OnProgress,
    OnWritten,
    Optimizer,
    Plan,
    train,
)

_CONTENT = "content_captions.json"
_CAPTIONED_AT_ONCE = 32
_MODEL = "model."

_Batch: TypeAlias = tuple[Sequence[int], Tensor, Tensor | None]
"""Rows of the patches, degraded crops, and clean crops of the different ones among the rows where
they are the content target; crops are uint8 BCHW."""


def train_extractor(
    config: ExtractorConfig,
    patches: Patches,
    captions: Sequence[str],
    *,
    directory: Storage,
    seed: int,
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    commit: OnWritten = lambda: None,
) -> Extractor:
    """Train an extractor, or go on where a killed training stopped.

    Writes checkpoints into `directory`, and at the end the extractor (see `save_extractor`) and
    `log.json`: the loss of each step, and in the `controller` form what the content target was,
    `captions by BLIP` or `clean images`. On a CPU a resumed training ends in the same weights, to
    the bit, as one that was never interrupted. When the loss is not finite, it goes back to the
    newest checkpoint and on at half the learning rate, once.

    Args:
        config: Network and recipe.
        patches: Degraded patches to learn from.
        captions: The degree caption of each.
        directory: Directory of checkpoints and result; nothing else may use it.
        seed: Seed of the weights, the batches and the crops.
        on_progress: Called about once a second, and at the end; see `training.train`.
        device: Device to compute on.
        commit: Called when all is written, to mark it as finished; checkpoints are deleted after.

    Returns:
        The trained extractor, text tower included, in evaluation mode.

    Raises:
        ValueError: If captions and patches do not match, or patches are smaller than the crops.
        ConfigError: If the network cannot be built or take such crops, or BLIP's weights be had.
        TrainingError: If the loss is not finite even at half the rate, or all captions are equal.
        ArtefactError: If `directory` has the checkpoints of another training.
        StorageError: If the directory cannot be written.
    """
    _check_captions(patches, captions)
    checkpoints = Checkpoints(directory, key := fingerprint([config, seed, list(captions)]))

    def begin(_: OnNote) -> _Learner:
        learner = _Learner(config, captions, seed, torch.device(device))
        if config.content_captions is not None:
            learner.content_captions = _captioned(config, patches, directory, key, device)
        return learner

    learner, record = train(
        _plan(config.recipe),
        draw=lambda positions: _draw(config, patches, positions, seed=seed),
        begin=begin,
        checkpoints=checkpoints,
        on_progress=on_progress,
    )
    directory.write_json(LOG, {**record.log(), **learner.choices()})
    save_extractor(extractor := learner.network.eval().cpu(), directory)
    commit()
    checkpoints.clear()
    return extractor


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether a training multiplies in bfloat16: if told to, or if `auto` finds it fast."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _plan(recipe: ExtractorRecipe) -> Plan:
    size = recipe.batch_size
    return Plan(
        name="the extractor",
        num_samples=recipe.num_steps * size,
        size_at=lambda _: size,
        learning_rate=recipe.learning_rate,
        rate_share_at=lambda num_seen: rate_share_at(recipe, num_seen // size),
        checkpoint_every=recipe.checkpoint_every_steps * size,
        curve_every=size,
        num_threads=recipe.num_threads,
    )


def _draw(config: ExtractorConfig, patches: Patches, positions: range, *, seed: int) -> _Batch:
    """Return the crops of the step at some positions."""
    recipe = config.recipe
    step = positions.start // recipe.batch_size
    rows = batch_at(recipe, step, num_patches=len(patches), seed=seed)
    crops = crops_at(patches.lq(rows), recipe, step, seed=seed)
    if config.form != "controller" or config.content_captions is not None:
        return rows, crops, None
    firsts = [rows.index(row) for row in sorted(set(rows))]
    return rows, crops, crops_at(patches.gt(rows), recipe, step, seed=seed)[firsts]


class _Learner:
    """The extractor between two steps; a `Learner` of the training loop."""

    def __init__(
        self, config: ExtractorConfig, captions: Sequence[str], seed: int, device: torch.device
    ) -> None:
        self._recipe, self._captions, self._device = config.recipe, captions, device
        self._is_half = computes_in_bfloat16(config.recipe.precision, device)
        self.content_captions: Sequence[str] = ()
        self.network = build_extractor(config, seed=seed).to(device).train()
        _check_crops(self.network)
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        self._optimizer = Optimizer(
            [weight for weight in weights if weight.ndim > 1],
            undecayed=[weight for weight in weights if weight.ndim <= 1],
            learning_rate=self._recipe.learning_rate,
            weight_decay=self._recipe.weight_decay,
        )

    def learn(self, batch: _Batch, _: range, rate_share: float) -> Tensor:
        """Move the weights by one batch."""
        loss = self._loss(*batch)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step(rate_share)
        return loss.detach()

    def _loss(self, rows: Sequence[int], crops: Tensor, clean: Tensor | None) -> Tensor:
        extractor = self.network
        captions = [self._captions[row] for row in rows]
        loss = HEADS[extractor.config.head].loss
        if extractor.content is None:
            with self._autocast():
                embeddings = extractor.encode(self._shown(crops))
            return loss(embeddings, captions, self._tower())
        with self._autocast():
            embeddings, content = extractor.encode_both(self._shown(crops))
        of_content = self._content_loss(content, rows, clean)
        return loss(embeddings, captions, self._tower()) + of_content

    def _content_loss(self, content: Tensor, rows: Sequence[int], clean: Tensor | None) -> Tensor:
        """Return the loss of content embeddings (paper 000, appendix A)."""
        tower = self._tower()
        if clean is None:
            names, target_of = distinct([self.content_captions[row] for row in rows])
            targets = tower(names)
        else:
            keys = sorted(set(rows))
            target_of = [keys.index(row) for row in rows]
            with self._autocast():
                targets = F.normalize(self.network.encode_clean(self._shown(clean)), dim=-1)
        places = torch.tensor(target_of, device=self._device)
        return multi_positive_loss(content, targets, places, logit_scale(tower))

    def choices(self) -> dict[str, str | None]:
        """Return what was chosen here, in words: the number format, the content target if any."""
        target = "captions by BLIP" if self.content_captions else "clean images"
        return {
            "precision": "bfloat16" if self._is_half else "float32",
            "content_target": None if self.network.content is None else target,
        }

    def _shown(self, crops: Tensor) -> Tensor:
        return crops.to(self._device).float() / 255.0

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_half)

    def _tower(self) -> CaptionTower:
        tower = self.network.captions
        if tower is None:
            raise ValueError("an extractor without a text tower cannot be trained")
        return tower

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state as named tensors."""
        weights = {_MODEL + name: tensor for name, tensor in self.network.state_dict().items()}
        return weights | self._optimizer.tensors()

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `tensors` returned."""
        weights = {
            name.removeprefix(_MODEL): tensor
            for name, tensor in tensors.items()
            if name.startswith(_MODEL)
        }
        self.network.load_state_dict(weights)
        self._optimizer.resume(tensors)


def _check_captions(patches: Patches, captions: Sequence[str]) -> None:
    if len(patches) != len(captions):
        raise ValueError(f"{len(patches)} patches cannot be trained with {len(captions)} captions")
    if len(set(captions)) < 2:
        raise TrainingError(
            f"the extractor learns from differences, but all {len(captions)} captions are equal"
        )


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
