"""The patch sets of a build: for experts, the extractor, routers and validation.

Each set is a table of its own, so that a larger set does not change the others; `parts` plans its
rows and makes them.
"""

import dataclasses

from expertree.degradation.looks import NATURAL, LooksConfig
from expertree.degradation.parameters import Severity
from expertree.degradation.photographs import Split
from expertree.degradation.ranges import PAPER_RANGES, RangesConfig
from expertree.degradation.recipe import MIN_MIXED_TASKS, mixable
from expertree.degradation.registry import DEFAULT_TASKS, MIXABLE, check_tasks
from expertree.errors import ConfigError

SHIFT_POINTS = tuple(number / 14 for number in range(15))
"""The paper's 15 points of shift (paper 000, figure 5), from the mildest parameters in distribution
to the severest out of it."""

CLEAN_SET = "val_clean"
"""Name of the set of clean patches."""

HALF_GREY = dataclasses.replace(NATURAL, grey_share=0.5)

SHIFT_MIXED_FRACTION = 0.5
"""Share of the patches at a point of shift that has several degradations."""

WINDOW_TIMES = 2.5
"""Side of the pictures that windows are chosen by, in sides of a patch."""

_LEAST = {
    "patch_px": 16,
    "route_scored_px": 16,
    "num_train": 1,
    "num_extractor": 1,
    "num_route": 1,
    "num_val_in": 1,
    "num_val_out": 1,
    "num_val_clean": 0,
    "num_shift": 0,
    "num_window": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PatchSet:
    """A set of patches for one purpose.

    Attributes:
        name: First part of the patches' ids.
        part: Part of the photographs that they are cut from.
        severity: Ranges of the parameters.
        num_patches: Number of patches.
        mixed_fraction: Share of the patches that has several degradations at once.
        patch_px: Side of a patch.
        tasks: Single degradations, and what mixtures are made of.
        clean_fraction: Share of the patches that is clean.
        looks: Colours and JPEG coding that are no degradation.
        also: Other parts of the pictures that they are cut from too.
        scored_px: Side of the middle that experts are scored on; None for the whole patch.
        ranges: Ranges of parameters that differ from the paper's.
        takes_pairs: Whether pairs give rows too, where a build has some.
        smaller_share: Share of the rows of photographs that are made smaller before all else.
    """

    name: str
    part: Split
    severity: Severity
    num_patches: int
    mixed_fraction: float
    patch_px: int
    tasks: tuple[str, ...]
    clean_fraction: float = 0.0
    looks: LooksConfig = NATURAL
    also: tuple[Split, ...] = ()
    scored_px: int | None = None
    ranges: RangesConfig = PAPER_RANGES
    takes_pairs: bool = False
    smaller_share: float = 0.0

    @property
    def parts(self) -> tuple[Split, ...]:
        """The parts of the pictures that they are cut from."""
        return (self.part, *self.also)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DegradationConfig:
    """Sizes and contents of the patch sets.

    Attributes:
        patch_px: Side of a patch. The extractor looks at all of it; experts crop from it.
        num_train: Patches to train experts on, and to cluster.
        num_extractor: Patches of any degree, from the same photographs, to train the extractor on.
        num_route: Patches to train routers on, from photographs that no expert has seen and, made
            anew, from those of the experts: routers that see few photographs take what is on them
            for a degradation (docs/LOG.md).
        route_scored_px: Side of the middle of these patches that experts are scored on, at most;
            a quarter of the pixels tells as well which expert is best (docs/LOG.md).
        route_smaller_share: Share of these patches whose photograph is made smaller, by a factor
            from 0.5 to 0.95, before all else. That takes away what its camera left, the grid of
            JPEG's blocks above all, which routers otherwise take for the sign that nothing was
            done to a picture (docs/LOG.md).
        num_val_in: Validation patches with parameters in distribution.
        num_val_out: Validation patches with parameters out of distribution.
        num_val_clean: Clean validation patches, half of them grey: routers should leave them as
            they are.
        num_shift: Validation patches at each of 15 points from the mildest in distribution to the
            severest out of it, half of them mixed, for the report's curves; 0 leaves them out.
        num_window: Pictures of two and a half sides of a patch, from the photographs and pairs that
            are large enough, by which it is measured whether an expert judges large pictures by the
            whole or by windows; 0 for the whole.
        mixed_fraction: Share of the experts' and validation sets that has several degradations.
        chooser_mixed_fraction: Share of the extractor's and the routers' sets that has several
            degradations; it is larger, as mixtures are the hardest to tell apart.
        chooser_clean_fraction: Share of the extractor's and the routers' sets that is clean, so
            that they learn to leave such pictures alone. Experts see none.
        looks: Colours and JPEG coding of training pictures that are no degradation; validation
            pictures are as they are.
        tasks: Single degradations; each gets the same number of patches. Mixtures are made of
            those that can be mixed.
        extractor_tasks: Single degradations of the extractor's set, where it should know others
            than those that experts are trained on: kinds that experts meet in pairs alone have no
            degrees, and the extractor learns from degrees. Null for `tasks`.
        extractor_pairs: Whether the extractor learns from pairs too, whose captions name the kind
            alone: what cameras do is then a kind of its own beside what formulas do.
        ranges: Ranges of parameters that differ from the paper's.
    """

    patch_px: int = 128
    num_train: int = 2800
    num_extractor: int = 2800
    num_route: int = 1400
    route_scored_px: int = 64
    route_smaller_share: float = 0.6
    num_val_in: int = 420
    num_val_out: int = 420
    num_val_clean: int = 60
    num_shift: int = 28
    num_window: int = 168
    mixed_fraction: float = 0.2
    chooser_mixed_fraction: float = 0.4
    chooser_clean_fraction: float = 0.1
    looks: LooksConfig = LooksConfig()
    tasks: tuple[str, ...] = DEFAULT_TASKS
    extractor_tasks: tuple[str, ...] | None = None
    extractor_pairs: bool = False
    ranges: RangesConfig = PAPER_RANGES

    def __post_init__(self) -> None:
        """Raise ConfigError unless sizes, fractions and tasks can work together.

        Raises:
            ConfigError: If a value cannot work; names it.
        """
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        clean, mixed = self.chooser_clean_fraction, self.chooser_mixed_fraction
        if not 0.0 <= clean <= 1.0 or clean + mixed > 1.0:
            raise ConfigError(
                "chooser_clean_fraction must lie in [0, 1] and leave room for "
                f"chooser_mixed_fraction={mixed}, got {clean}"
            )
        for name in ("tasks", "extractor_tasks"):
            self._check_tasks(name)
        self._check_mixed("mixed_fraction", "tasks")
        for name in ("tasks", "extractor_tasks"):
            self._check_mixed("chooser_mixed_fraction", name)
        share = self.route_smaller_share
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"route_smaller_share must lie in [0, 1], got {share}")

    def _check_tasks(self, name: str) -> None:
        try:
            check_tasks(getattr(self, name) or self.tasks)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None

    def _check_mixed(self, name: str, of_tasks: str) -> None:
        fraction, tasks = getattr(self, name), getattr(self, of_tasks) or self.tasks
        if not 0.0 <= fraction <= 1.0:
            raise ConfigError(f"{name} must lie in [0, 1], got {fraction}")
        if fraction > 0 and len(mixable(tasks)) < MIN_MIXED_TASKS:
            raise ConfigError(
                f"{name} is {fraction}, but {of_tasks} {list(tasks)} has less "
                f"than {MIN_MIXED_TASKS} that can be mixed ({', '.join(MIXABLE)}); name more of "
                "these, or set it to 0"
            )

    def patch_sets(self) -> dict[str, PatchSet]:
        """Return the sets of a build by name.

        Returns:
            `train`, `extractor`, `route`, `val_in`, `val_out`; `val_clean` and the points of shift
            if they have patches.
        """
        usual, choosers = self.mixed_fraction, self.chooser_mixed_fraction
        extractor = dataclasses.replace(
            self.patch_set("extractor", "train", "any", self.num_extractor, choosers),
            tasks=self.extractor_tasks or self.tasks,
            takes_pairs=self.extractor_pairs,
        )
        route = dataclasses.replace(
            self._with_pairs("route", "route", self.num_route, choosers),
            also=("train",),
            smaller_share=self.route_smaller_share,
            scored_px=self.route_scored_px if self.route_scored_px < self.patch_px else None,
        )
        sets = [
            self._of_training(self._with_pairs("train", "train", self.num_train, usual), 0.0),
            *(self._of_training(made, self.chooser_clean_fraction) for made in (extractor, route)),
            self._with_pairs("val_in", "val", self.num_val_in, usual),
            self.patch_set("val_out", "val", "out", self.num_val_out, usual),
        ]
        if self.num_val_clean:
            made = self.patch_set(CLEAN_SET, "val", "in", self.num_val_clean, 0.0)
            sets.append(dataclasses.replace(made, clean_fraction=1.0, looks=HALF_GREY))
        return {patch_set.name: patch_set for patch_set in sets} | self.shift_sets()

    def select_sets(self) -> dict[str, PatchSet]:
        """Return the sets by which a search chooses a tree: `select_in` and `select_out`.

        They are like the sets for validation but have other patches, so that a report on the
        chosen tree does not rest on the patches by which it was chosen.
        """
        usual = self.mixed_fraction
        sets = (
            self._with_pairs("select_in", "val", self.num_val_in, usual),
            self.patch_set("select_out", "val", "out", self.num_val_out, usual),
        )
        return {patch_set.name: patch_set for patch_set in sets}

    def window_set(self) -> PatchSet | None:
        """Return the set by which experts' windows are chosen, `window`, if it has pictures.

        Its pictures are larger than patches and in distribution; no report shows them.
        """
        if self.num_window == 0:
            return None
        made = self._with_pairs("window", "route", self.num_window, self.mixed_fraction)
        side_px = round(WINDOW_TIMES * self.patch_px)
        return dataclasses.replace(made, also=("train",), patch_px=side_px)

    def rates_set(self) -> PatchSet:
        """Return the set by which a comparison chooses learning rates, `rates`.

        It is in distribution, and cut from what is held back for routers alone: networks are
        neither trained nor reported on these photographs.
        """
        return self._with_pairs("rates", "route", self.num_val_in, self.mixed_fraction)

    def _with_pairs(self, name: str, part: Split, num_patches: int, mixed: float) -> PatchSet:
        """Return a set that pairs give rows to as well; what is synthesised is in distribution."""
        made = self.patch_set(name, part, "in", num_patches, mixed)
        return dataclasses.replace(made, takes_pairs=True)

    def _of_training(self, patch_set: PatchSet, clean_fraction: float) -> PatchSet:
        return dataclasses.replace(patch_set, clean_fraction=clean_fraction, looks=self.looks)

    def shift_sets(self) -> dict[str, PatchSet]:
        """Return the sets at the points of shift, mildest first; none if `num_shift` is 0."""
        if self.num_shift == 0:
            return {}
        fraction = SHIFT_MIXED_FRACTION if len(mixable(self.tasks)) >= MIN_MIXED_TASKS else 0.0
        sets = [self.shift_set(point, self.num_shift, fraction) for point in SHIFT_POINTS]
        return {patch_set.name: patch_set for patch_set in sets}

    def shift_set(self, severity: float, num_patches: int, mixed_fraction: float) -> PatchSet:
        """Return the validation set at one point of shift, from 0 (mildest) to 1 (severest)."""
        name = f"shift-{severity:.4f}"
        return self.patch_set(name, "val", severity, num_patches, mixed_fraction)

    def patch_set(
        self, name: str, part: Split, severity: Severity, num_patches: int, mixed_fraction: float
    ) -> PatchSet:
        """Return a set with this configuration's patch size and tasks."""
        return PatchSet(
            name=name,
            part=part,
            severity=severity,
            num_patches=num_patches,
            mixed_fraction=mixed_fraction,
            patch_px=self.patch_px,
            tasks=self.tasks,
            ranges=self.ranges,
        )
