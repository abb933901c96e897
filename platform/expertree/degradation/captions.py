"""Captions of degrees, which the extractor's text tower reads (paper 000, appendix C)."""

from collections.abc import Sequence

from expertree.degradation.parameters import Parameters
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import REGISTRY

SEPARATOR = ", "

CLEAN_CAPTION = "no degradation"
"""Caption of a clean picture; not one of the paper's 18 degrees."""


def degree(task: str, parameters: Parameters) -> str:
    """Return the degree caption of one degradation, for example `medium noise`.

    Raises:
        ValueError: If the task is unknown or has other parameters.
    """
    if task not in REGISTRY:
        raise ValueError(f"unknown degradation {task!r}; known are {', '.join(REGISTRY)}")
    degradation = REGISTRY[task]
    return f"{degradation.degree(parameters)} {degradation.noun}"


def caption(recipe: Recipe) -> str:
    """Return the caption of an image: its degrees, joined in physical order."""
    if not recipe.tasks:
        return CLEAN_CAPTION
    return SEPARATOR.join(degree(task, recipe.parameters[task]) for task in recipe.tasks)


def caption_of_kinds(tasks: Sequence[str]) -> str:
    """Return the caption of an image of which only the kinds of degradation are known.

    Args:
        tasks: Kinds in the order in which they came about; those of the registry give their nouns,
            others (`raindrop`) their names as words.
    """
    nouns = [REGISTRY[task].noun if task in REGISTRY else task.replace("_", " ") for task in tasks]
    return SEPARATOR.join(nouns)


ALL_DEGREES: tuple[str, ...] = tuple(
    dict.fromkeys(
        f"{name} {degradation.noun}"
        for degradation in REGISTRY.values()
        for name in degradation.degrees
    )
)
"""The 18 degree captions. Gaussian and motion blur share theirs, as the paper has one blur."""
