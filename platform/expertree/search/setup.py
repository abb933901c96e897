"""Checks a search's space, and makes what its trials have in common before the first."""

import dataclasses

from expertree.degradation.fresh import RealMaps
from expertree.errors import ConfigError, GroupingError
from expertree.pipeline.extractor import make_extractor
from expertree.pipeline.patch_sets import embed_tables, make_tables, score_tables
from expertree.pipeline.score import INPUTS, MEASURES, Measured
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench
from expertree.pipeline.tree import cut_tree, shard_tree
from expertree.search.draws import random_trials
from expertree.search.planning import SETS, TRAIN, SearchSetup
from expertree.search.settings import SearchConfig, check_trials, trial_config
from expertree.search.space import Space
from expertree.storage import Storage

_NUM_CHECKED = 64


def check_space(config: SearchConfig, space: Space) -> None:
    """Check that a space's trials are possible, as far as is known before anything is made.

    Raises:
        ConfigError: If one is impossible, or there are none.
    """
    if config.grow.build is not None:
        raise ConfigError("grow.build grows one tree; a search cuts new ones: leave it out")
    if config.finetune.bundle is not None:
        raise ConfigError("finetune.bundle has its tree; a search cuts new ones: leave it out")
    size = space.size()
    if size == 0:
        raise ConfigError(f"search space '{space.name}' is empty: no trial meets its conditions")
    if config.search.searcher == "grid" or (size is not None and size <= _NUM_CHECKED):
        values = list(space.grid())
    else:
        values = random_trials(space, _NUM_CHECKED, seed=config.search.seed)
    check_trials(config, (space.overrides(own) for own in values))


def make_setup(
    config: SearchConfig,
    space: Space,
    material: Material,
    bench: Workbench,
    notes: Storage,
) -> SearchSetup:
    """Make what all trials have in common: images, their own scores, the extractor, embeddings.

    Raises:
        ExpertreeError: If that cannot be made, or the images do not fall into as many groups as
            the largest shape of the space has.
    """
    base = trial_config(config, space.overrides({}))
    sets = {
        name: own for name, own in base.degradation.patch_sets().items() if own.part != "val"
    } | base.degradation.select_sets()
    tables = make_tables(bench, sets, material, seed=base.seed)
    extractor = make_extractor(base, bench, tables)
    embedded = {name: table for name, table in tables.items() if name != "extractor"}
    embeddings = embed_tables(bench, embedded, extractor)
    own = {INPUTS: None, MEASURES: Measured.like(extractor)}
    scores = score_tables(bench, tables, own, [(key, name) for key in own for name in SETS])
    most = space.most_groups() or base.hierarchy.groups[-1]
    if base.hierarchy.method == "bisecting":
        shape = (1, most) if most > 1 else (1,)
        hierarchy = dataclasses.replace(base.hierarchy, groups=shape)
        finest = dataclasses.replace(base, hierarchy=hierarchy)
        try:
            cut = cut_tree(finest, bench, extractor, embeddings[TRAIN])
        except GroupingError as error:
            raise ConfigError(
                f"search space '{space.name}' is impossible with these images: {error}"
            ) from error
        shard_tree(bench, tables[TRAIN], cut)
    return SearchSetup(
        config=config,
        tables=tables,
        embeddings=embeddings,
        inputs={name: scores[INPUTS, name] for name in SETS},
        measures={name: scores[MEASURES, name] for name in SETS},
        extractor=extractor,
        kinds=material.kinds(base.degradation.tasks),
        most_groups=most,
        notes=notes,
        maps=RealMaps.of(base.photographs.maps, material.maps),
        owner=bench.owner,
    )
