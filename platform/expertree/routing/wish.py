"""What a caller wants of a restoration, in one value for the command line and HTTP."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, TypeAlias

from expertree.hierarchy import Tree
from expertree.images.mixing import check_strength
from expertree.routing.decision import Route, decide
from expertree.routing.guide import Guide, level_of_confidence
from expertree.routing.router import RouterOutput

TilePx: TypeAlias = int | Literal["auto"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a caller wants for an image: which expert, and how much of its work.

    Attributes:
        level: Level of the tree to take; 0 is the root's.
        expert: Expert to take, by its node.
        instruction: What is wrong with the image, by names of `bundle.guide`; leaves that hold
            little of it are not chosen.
        words: The same in the caller's own words. Networks that take sentences are told them as
            they are. Where `instruction` names nothing, the names that they mean are read from
            them; a bundle whose networks take no sentences reads names with commas between only.
        confidence: How sure that is, 0, 1 or 2, which picks the level; in place of `level`.
        insist: Whether to choose an expert even if none is predicted to make the image better. A
            level, an expert, an instruction, words or a confidence has the same effect.
        strength: How much of the restoration is mixed into the image, from 0 (the image to the
            bit; no expert runs) to 1 (the restoration to the bit); see `images.mixing.mix`.
        tile_px: Longest side of a tile; 0 for the whole image at once; `auto` starts with large
            tiles and halves them while memory runs out.
    """

    level: int | None = None
    expert: int | None = None
    instruction: Sequence[str] = ()
    words: str = ""
    confidence: int | None = None
    insist: bool = False
    strength: float = 1.0
    tile_px: TilePx = "auto"

    def __post_init__(self) -> None:
        """Raise ValueError if level and confidence are both given, or strength is not 0 to 1."""
        check_strength(self.strength)
        if self.level is not None and self.confidence is not None:
            raise ValueError(
                f"level {self.level} and confidence {self.confidence} both pick the level; give one"
            )


AUTOMATIC = Wish()
"""The wish that leaves all choices to the routers."""


def choose(output: RouterOutput, tree: Tree, guide: Guide, wish: Wish) -> list[Route]:
    """Decide for each sample of a batch as a caller wishes; see `decide`.

    Args:
        output: Output of the routers.
        tree: The tree that they were trained for.
        guide: Guide to what its leaves hold, by name.
        wish: What the caller wants.

    Raises:
        ValueError: If the level, expert, confidence or a name of the instruction does not exist.
    """
    level = wish.level
    if wish.confidence is not None:
        level = level_of_confidence(wish.confidence, output.levels())
    return decide(
        output,
        tree,
        level=level,
        expert=wish.expert,
        leaf_mask=guide.leaf_mask(wish.instruction) if wish.instruction else None,
        insist=wish.insist or bool(wish.words),
    )
