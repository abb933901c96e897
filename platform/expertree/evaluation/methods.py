"""The methods that are rows of every results table: their names in data and for people."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """The name and description of a method for people.

    Attributes:
        name: Name where there is room.
        short: Name in a chart or a terminal.
        note: Description in a few words.
        is_bound: Whether it chooses with the clean image at hand, and so is a limit and no method.
    """

    name: str
    short: str
    note: str
    is_bound: bool = False


METHODS: Mapping[str, Described] = {
    "input": Described(name="input", short="input", note="as it came"),
    "classical": Described(
        name="best classical, told the task",
        short="classical",
        note="the classical method that is best for each degradation, told which one it is",
    ),
    "one_network": Described(
        name="one network, samples of a path",
        short="one network",
        note="the root's network alone, trained on as many samples as any path through the tree",
    ),
    "one_network_tree": Described(
        name="one network, samples of the whole tree",
        short="one network, tree",
        note="the root's network alone, trained on as many samples as all experts together",
    ),
    "random_expert": Described(
        name="random expert",
        short="random expert",
        note="any of the tree's experts, in the mean over them",
    ),
    "root": Described(
        name="root of the tree", short="root", note="the expert at level 0, for every image"
    ),
    "finest_level": Described(
        name="finest level",
        short="finest level",
        note="the expert at the end of the chosen path, whatever the level router says",
    ),
    "routed": Described(
        name="routed",
        short="routed",
        note="the router picks the path and the level, and one expert runs, or none",
    ),
    "best_level": Described(
        name="best level on the path",
        short="best level",
        note="the best level on the chosen path, picked with the clean image at hand",
        is_bound=True,
    ),
    "best": Described(
        name="best of all experts and the input",
        short="best of all",
        note="the best there is, picked with the clean image at hand",
        is_bound=True,
    ),
}
"""The methods in the order of the rows, by their names in data."""

ONE_NETWORK, ONE_NETWORK_TREE = "one_network", "one_network_tree"
"""The root's network, trained on everything: with the samples of a path, and of the whole tree."""


def described(name: str) -> Described:
    """Return the description of a method; an unknown one goes by its name in data."""
    return METHODS.get(name) or Described(name=name, short=name, note="")


def gain_over(averages: Mapping[str, float]) -> str:
    """Return the method that the headline's gain is measured over.

    It is the better one of the input and the network trained on as many samples as the whole tree.
    Without that network the one trained on the samples of a path takes its place, and without
    either it is the input.

    Args:
        averages: Average PSNR by method, the input's at least.
    """
    network = [name for name in (ONE_NETWORK_TREE, ONE_NETWORK) if name in averages][:1]
    return max(["input", *network], key=lambda name: averages[name])
