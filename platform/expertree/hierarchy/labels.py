"""Labels of many samples, stored compactly where few of them differ."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from jaxtyping import Int64

T = TypeVar("T")
U = TypeVar("U")


class Labels(Sequence[T], Generic[T]):
    """A sequence of labels that keeps each different one once.

    Attributes:
        values: The different labels.
        codes: The place of each sample's label in `values`.
    """

    def __init__(self, values: Sequence[T], codes: Int64[np.ndarray, " samples"]) -> None:
        """Take the different labels, and the place of each sample's label among them."""
        self.values = tuple(values)
        self.codes = codes

    @classmethod
    def of(cls, labels: Sequence[T]) -> "Labels[T]":
        """Return labels in this form; they must be hashable."""
        if isinstance(labels, Labels):
            return labels
        places: dict[T, int] = {}
        codes = [places.setdefault(label, len(places)) for label in labels]
        return cls(tuple(places), np.array(codes, dtype=np.int64))

    @classmethod
    def join(cls, parts: Sequence["Labels[T]"]) -> "Labels[T]":
        """Return the labels of several sets, one after the other."""
        starts = np.cumsum([0, *(len(part.values) for part in parts)])
        values = [value for part in parts for value in part.values]
        codes = [part.codes + start for part, start in zip(parts, starts, strict=False)]
        return cls(values, np.concatenate(codes)).map(lambda value: value)

    def map(self, change: Callable[[T], U]) -> "Labels[U]":
        """Return the labels with each one changed by a function."""
        changed = Labels.of([change(value) for value in self.values])
        return Labels(changed.values, changed.codes[self.codes])

    def counts(
        self, groups: Int64[np.ndarray, " samples"], num_groups: int
    ) -> Int64[np.ndarray, "groups values"]:
        """Count how often each label occurs in each group of samples.

        Raises:
            ValueError: If there is not one group for each label.
        """
        if len(groups) != len(self):
            raise ValueError(f"{len(groups)} samples in groups, but {len(self)} labels")
        num_values = len(self.values)
        flat = np.bincount(groups * num_values + self.codes, minlength=num_groups * num_values)
        return flat.reshape(num_groups, num_values)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.codes)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the label of each sample."""
        return (self.values[code] for code in self.codes.tolist())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Labels[T]": ...
    def __getitem__(self, index: Any) -> Any:
        """Return the label of one sample, or the labels of a slice."""
        if isinstance(index, slice):
            return Labels(self.values, self.codes[index])
        return self.values[self.codes[index]]
