import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float32, jaxtyped

from expertree.testing import check_arrays

Rows = Float32[np.ndarray, "rows columns"]


@jaxtyped(typechecker=check_arrays)
def scale(rows: Rows, factor: float, *, keep_shape: bool = True) -> Rows:
    if rows.ndim != 2:
        raise ValueError(f"rows must have two axes, not {rows.ndim}")
    scaled = rows * factor
    return scaled if keep_shape else scaled[1:]


def test_a_call_that_keeps_its_signature_passes() -> None:
    # A whole number for a float is no matter of shapes: mypy decides about it.
    assert scale(np.ones((2, 3), np.float32), 2).tolist() == [[2, 2, 2], [2, 2, 2]]


def test_a_function_may_refuse_in_its_own_words() -> None:
    with pytest.raises(ValueError, match="two axes, not 1"):
        scale(np.ones(3, np.float32), 2.0)


def test_a_wrong_dtype_that_nobody_refused_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match=r"f64\[2,3\]"):
        scale(np.ones((2, 3)), 2.0)


def test_an_axis_that_changes_its_length_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="rows=2"):
        scale(np.ones((2, 3), np.float32), 2.0, keep_shape=False)
