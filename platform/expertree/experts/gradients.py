"""The gradient of a batch, in as many pieces as the memory asks for."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.errors import TrainingError
from expertree.experts.backbones.spec import Objective
from expertree.experts.batches import Batch
from expertree.experts.losses import LOSSES
from expertree.experts.recipe import RecipeConfig
from expertree.memory import free_cached_memory, is_out_of_memory
from expertree.training import FlatParameters


class Gradients:
    """Sums gradients over the pieces of a batch into a network's flat gradient.

    When the memory is not enough for a piece, the pieces become half as large and the batch is
    begun again: what is summed up stays the same, but for rounding.

    Attributes:
        most: Samples that go through the network at once; None as long as all of a batch does.
    """

    def __init__(
        self,
        network: nn.Module,
        flat: FlatParameters,
        recipe: RecipeConfig,
        *,
        objective: Objective | None = None,
        on_note: Callable[[str], None],
    ) -> None:
        """See the class.

        Args:
            network: The network, as it is to be called.
            flat: Its trainable weights.
            recipe: Loss, precision, size of the pieces.
            objective: What the network is trained on in place of the loss of its image.
            on_note: Told when the pieces become smaller.
        """
        self._network, self._flat = network, flat
        self._loss, self._objective = LOSSES[recipe.loss], objective
        self._is_half = recipe.precision == "bfloat16"
        self._on_note = on_note
        self.most = recipe.micro_batch_size

    def compute(self, batch: Batch, *, out_of: int) -> Float[Tensor, ""]:
        """Set the flat gradient to that of the mean loss.

        Args:
            batch: The samples; there may be none.
            out_of: Samples of the whole batch, of which these may be one worker's share.

        Returns:
            The loss of these samples, as their part of the batch's mean.

        Raises:
            TrainingError: If the memory is not even enough for one sample.
        """
        while True:
            self._flat.clear_gradients()
            try:
                return self._sum(batch, out_of)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(batch), tuple(batch.lq.shape[-2:]), error)
            free_cached_memory()

    def _sum(self, batch: Batch, out_of: int) -> Tensor:
        total = torch.zeros((), device=batch.lq.device)
        size = max(1, min(self.most or len(batch), len(batch)))
        for first in range(0, len(batch), size):
            piece = batch.rows(slice(first, first + size))
            loss = self._loss_of(piece)
            share = len(piece) / out_of
            loss = loss if share == 1.0 else loss * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss_of(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.lq.device.type, torch.bfloat16, enabled=self._is_half):
            if self._objective is not None:
                return self._objective(self._network, batch, self._loss)
            told = (batch.condition,) if batch.condition else ()
            restored = self._network(batch.lq, *told)
        return self._loss(restored.float(), batch.gt)

    def _halve(self, num_samples: int, sides_px: tuple[int, ...], error: Exception) -> None:
        before = min(self.most or num_samples, num_samples)
        if before <= 1:
            raise TrainingError(
                f"the memory is not enough for one sample of {sides_px[0]} x {sides_px[1]} px; "
                "lower recipe.patch_px, or give the lane more memory"
            ) from error
        self.most = before // 2
        self._on_note(f"out of memory with {before} samples at once, so {self.most} at once now")
