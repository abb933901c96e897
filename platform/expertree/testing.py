"""Helpers of tests that lie in the package, where Ray's workers and import hooks find them."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

F = TypeVar("F", bound=Callable[..., Any])


def check_arrays(function: F) -> F:
    """Return a function that checks its arrays against the shapes and dtypes in its signature.

    This is a type checker for jaxtyping's import hook, which asks twice: before the call for the
    arguments alone (the result is then `Any`), and after it for arguments and result together.
    Only the second is checked, so that a function may itself refuse what its signature excludes;
    one that neither refuses nor returns what it promised is caught. Annotations without arrays
    are left to mypy.
    """
    annotations = function.__annotations__
    if annotations.get("return", Any) is Any:
        return function
    function.__annotations__ = {
        name: hint for name, hint in annotations.items() if _mentions_an_array(hint)
    }
    return beartype(function)


def _mentions_an_array(hint: object) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_mentions_an_array(part) for part in get_args(hint))
