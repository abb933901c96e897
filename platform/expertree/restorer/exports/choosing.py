"""The choice of an expert as one function that can be traced: windows, extractor, routers, tree.

`Restorer.choose` decides in Python what a caller wishes; here there is no wish, and no loop over
windows: there are always nine, of which those beyond what an image has room for count nothing.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from expertree.embedding.views import SPREAD
from expertree.errors import ExportError
from expertree.hierarchy import Tree
from expertree.hierarchy.tree import Metric
from expertree.restorer.bundle import Bundle
from expertree.routing import RouterOutput
from expertree.routing.measures import measure_windows

AS_IS = -1
"""Stands for an image that is left as it is, where otherwise an expert's node stands."""


class Chooser(nn.Module):
    """From an image to the node of the expert that the routers choose, or `AS_IS`."""

    mean: Tensor
    std: Tensor
    experts: Tensor
    places: Tensor

    def __init__(self, bundle: Bundle) -> None:
        """Take the parts of a bundle.

        Raises:
            ExportError: If its extractor looks at images in a way that has no form here.
        """
        super().__init__()
        view = bundle.extractor.config.view
        if view not in ("spread", "centre_crop"):
            raise ExportError(
                f"the extractor's view '{view}' has no form in one graph, only spread and "
                "centre_crop have; export the experts one by one"
            )
        self.extractor, self.router = bundle.extractor, bundle.router
        self.most = SPREAD if view == "spread" else 1
        self.side_px = bundle.extractor.config.view_px
        self.metric = bundle.tree.metric
        self.register_buffer("mean", torch.from_numpy(np.array(bundle.tree.mean)))
        self.register_buffer("std", torch.from_numpy(np.array(bundle.tree.std)))
        self.register_buffer("experts", _experts(bundle.tree))
        self.register_buffer("places", _places(bundle.tree))
        self.eval()  # which exporting restores in the parts, too

    def forward(self, image: Float[Tensor, "1 3 h w"]) -> Int64[Tensor, " 1"]:
        """Choose for one image of any size."""
        height, width = torch._shape_as_tensor(image)[2:].unbind()  # noqa: SLF001 - see portable
        rows, row_shares = _windows(height, self.side_px, self.most)
        columns, column_shares = _windows(width, self.side_px, self.most)
        part = image.index_select(2, rows).index_select(3, columns)
        cut = part.view(3, self.most, self.side_px, self.most, self.side_px)
        cut = cut.permute(1, 3, 0, 2, 4).flatten(0, 1)[None]
        shares = (row_shares[:, None] * column_shares[None, :]).flatten()
        embedded = self.extractor.encode_windows(cut, shares)
        points = standardised(embedded, self.mean, self.std, self.metric)
        if self.router.shape.num_measures:
            measures = (measure_windows(cut[0]) * shares[:, None]).sum(dim=0, keepdim=True)
            points = torch.cat([points, measures], dim=1)
        return self._decided(self.router(points))

    def _decided(self, output: RouterOutput) -> Int64[Tensor, " 1"]:
        """Do what `routing.decide` does where nothing is asked for."""
        if output.costs is None:
            leaf, level = output.leaf_logits.argmax(dim=1), output.level_logits.argmax(dim=1)
            return self.places.flatten()[leaf * self.places.shape[1] + level]
        least, node = output.costs.min(dim=1)
        expert = self.experts[node]
        if output.as_is_cost is None:
            return expert
        is_worth_it = output.as_is_cost - least > output.as_is_margin_db
        return torch.where(is_worth_it, expert, torch.full_like(expert, AS_IS))


def standardised(
    embedded: Float[Tensor, "b dim"],
    mean: Float[Tensor, " dim"],
    std: Float[Tensor, " dim"],
    metric: Metric,
) -> Float[Tensor, "b dim"]:
    """Do what `hierarchy.tree.standardise` does, traceably."""
    if metric == "angular":
        embedded = F.normalize(embedded, dim=1, eps=1e-12)
    points = (embedded - mean) / std
    return F.normalize(points, dim=1, eps=1e-12) if metric == "cosine" else points


def _windows(
    length_px: Int64[Tensor, ""], side_px: int, most: int
) -> tuple[Int64[Tensor, " pixels"], Float[Tensor, " most"]]:
    """Return the pixels of `most` windows along a side as `views` cuts them, and their shares."""
    wanted = length_px.clamp(min=side_px)
    last = wanted - side_px
    if most == 1:
        starts, shares = (last // 2)[None], torch.ones(1)
    else:
        places = torch.arange(most)
        num_windows = ((wanted + side_px - 1) // side_px).clamp(max=most)
        places_there = torch.minimum(places, num_windows - 1)
        starts = (places_there * last / (num_windows - 1).clamp(min=1)).round().long()
        shares = (places < num_windows).float() / num_windows
    pixels = (starts[:, None] + torch.arange(side_px)[None, :]).flatten()
    period = (2 * (length_px - 1)).clamp(min=1)
    folded = (pixels - (wanted - length_px) // 2).remainder(period)
    return torch.minimum(folded, period - folded), shares


def _experts(tree: Tree) -> Int64[Tensor, " nodes"]:
    return torch.tensor([tree.expert_of(node.index) for node in tree.nodes])


def _places(tree: Tree) -> Int64[Tensor, "leaves levels"]:
    return torch.tensor(
        [
            [tree.expert_of(tree.node_at(leaf, level)) for level in range(tree.num_levels)]
            for leaf in range(tree.num_leaves)
        ]
    )
