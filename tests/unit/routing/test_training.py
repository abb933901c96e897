"""Training on tables whose right answers are known."""

import copy
import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch

from expertree.errors import ConfigError, TrainingError
from expertree.hierarchy import Tree, assign
from expertree.pipeline.stages import VERSIONS
from expertree.routing import (
    Route,
    RouterConfig,
    TrainedRouter,
    decide,
    routed_scores,
    train_router,
)
from expertree.routing.settings import Objective

QUICK = RouterConfig(num_epochs=30, num_cost_heads=3, cap_db=6.0, measures=False)


@dataclasses.dataclass(frozen=True)
class Samples:
    embeddings: np.ndarray
    leaves: np.ndarray
    psnr: np.ndarray
    inputs: np.ndarray
    right_levels: np.ndarray


def make_samples(tree: Tree, num_samples: int, seed: int) -> Samples:
    """Samples around the leaves' centroids; the further from it, the coarser the best level.

    Inputs are much worse than every expert's result.
    """
    rng = np.random.default_rng(seed)
    leaves = rng.integers(0, 3, num_samples)
    levels = rng.integers(0, 3, num_samples)
    direction = np.ones(tree.embed_dim) / np.sqrt(tree.embed_dim)
    points = tree.leaf_centroids[leaves] + 0.3 * rng.standard_normal((num_samples, tree.embed_dim))
    points += np.outer(1.5 * (2 - levels), direction)
    psnr = rng.uniform(29.6, 30.5, (num_samples, 6))
    for row, (leaf, level) in enumerate(zip(leaves, levels, strict=True)):
        psnr[row, tree.node_at(leaf, level)] = 34.0
    psnr[:, 5] = psnr[:, 2]  # one chain, one expert
    embeddings = (points * tree.std + tree.mean).astype(np.float32)
    inputs = np.full(num_samples, 20.0)
    return Samples(embeddings, assign(tree, embeddings), psnr, inputs, levels)


def with_clean_ones(tree: Tree, samples: Samples) -> tuple[Samples, np.ndarray]:
    """The same, a third of them clean: far from all others, and spoiled by every expert."""
    is_clean = np.arange(len(samples.inputs)) % 3 == 0
    embeddings, psnr, inputs = (
        samples.embeddings.copy(),
        samples.psnr.copy(),
        samples.inputs.copy(),
    )
    embeddings[is_clean] -= 6 * tree.std
    psnr[is_clean], inputs[is_clean] = 38.0, 100.0
    changed = dataclasses.replace(samples, embeddings=embeddings, psnr=psnr, inputs=inputs)
    return changed, is_clean


def train(
    tree: Tree, samples: Samples, config: RouterConfig = QUICK, seed: int = 0
) -> TrainedRouter:
    return train_router(config, tree, samples.embeddings, samples.psnr, samples.inputs, seed=seed)


@pytest.fixture(scope="module")
def plain(tree: Tree) -> TrainedRouter:
    """A router that was trained on `make_samples`."""
    return train(tree, make_samples(tree, 600, seed=1))


@pytest.fixture(scope="module")
def with_clean(tree: Tree) -> TrainedRouter:
    """A router that was trained on `with_clean_ones`, with no caution."""
    samples, _ = with_clean_ones(tree, make_samples(tree, 600, seed=1))
    return train(tree, samples, dataclasses.replace(QUICK, caution=0.0))


def cautious(trained: TrainedRouter, caution: float) -> TrainedRouter:
    """The same router with other caution, which counts when it decides and not in its training."""
    router = copy.deepcopy(trained.router)
    router.caution = caution
    return dataclasses.replace(trained, router=router)


def routes_of(tree: Tree, trained: TrainedRouter, samples: Samples) -> list[Route]:
    points = torch.from_numpy(tree.standardise(samples.embeddings))
    with torch.inference_mode():
        return decide(trained.router(points), tree)


def routed_psnr(tree: Tree, trained: TrainedRouter, samples: Samples) -> np.ndarray:
    return routed_scores(routes_of(tree, trained, samples), samples.psnr, samples.inputs)


@pytest.mark.parametrize("objective", ["cost", "expected_l1"])
def test_routes_of_new_samples_beat_every_fixed_level(
    tree: Tree, plain: TrainedRouter, objective: Objective
) -> None:
    trained = plain
    if objective != QUICK.objective:
        config = dataclasses.replace(QUICK, objective=objective)
        trained = train(tree, make_samples(tree, 600, seed=1), config)
    new = make_samples(tree, 300, seed=2)
    best_fixed = max(
        new.psnr[np.arange(300), [tree.node_at(leaf, level) for leaf in new.leaves]].mean()
        for level in range(3)
    )
    routed = routed_psnr(tree, trained, new).mean()
    best = new.psnr.max(axis=1).mean()
    assert best - routed < 0.4 * (best - best_fixed)


def test_what_every_expert_would_spoil_is_left_as_it_is_and_nothing_else(
    tree: Tree, with_clean: TrainedRouter
) -> None:
    trained = cautious(with_clean, QUICK.caution)
    new, is_clean = with_clean_ones(tree, make_samples(tree, 300, seed=2))
    stays = np.array([route.expert is None for route in routes_of(tree, trained, new)])
    assert stays[is_clean].mean() > 0.95
    assert stays[~is_clean].mean() < 0.05
    assert trained.router.as_is_margin_db == QUICK.as_is_margin_db


def test_caution_leaves_more_pictures_alone_that_are_unlike_all_before(
    tree: Tree, with_clean: TrainedRouter
) -> None:
    """Halfway between those that experts help and those that they spoil."""
    samples, is_clean = with_clean_ones(tree, make_samples(tree, 600, seed=1))
    bold, careful = with_clean, cautious(with_clean, 2.0)
    left = {"bold": 0, "careful": 0}
    for shift in (1.0, 1.5, 2.0, 2.5):
        strange = dataclasses.replace(samples, embeddings=samples.embeddings - shift * tree.std)
        for name, trained in {"bold": bold, "careful": careful}.items():
            stays = np.array([r.expert is None for r in routes_of(tree, trained, strange)])
            left[name] += int(stays[~is_clean].sum())
    assert left["careful"] > 1.2 * left["bold"]
    known = [routed_psnr(tree, trained, samples).mean() for trained in (bold, careful)]
    assert known[1] > known[0] - 0.5


@pytest.mark.parametrize("objective", ["expected_l1", "paper"])
def test_gates_always_take_an_expert(tree: Tree, objective: Objective) -> None:
    samples, _ = with_clean_ones(tree, make_samples(tree, 200, seed=1))
    config = dataclasses.replace(QUICK, objective=objective, num_epochs=3)
    routes = routes_of(tree, train(tree, samples, config), samples)
    assert all(route.expert is not None for route in routes)


def test_a_table_in_which_all_choices_tie_trains(tree: Tree) -> None:
    samples = make_samples(tree, 150, seed=1)
    tied = dataclasses.replace(samples, psnr=np.full((150, 6), 100.0), inputs=np.full(150, 100.0))
    trained = train(tree, tied, dataclasses.replace(QUICK, num_epochs=3))
    assert trained.curve[-1].held_out_regret_db == 0.0


def test_the_best_pass_is_judged_by_the_decision_with_its_margin(tree: Tree) -> None:
    """Beyond any gain the margin leaves all as they are: their regret is that of the inputs."""
    samples = make_samples(tree, 150, seed=1)
    config = dataclasses.replace(QUICK, num_epochs=2, as_is_margin_db=1e3)
    trained = train(tree, samples, config)
    assert [epoch.held_out_regret_db for epoch in trained.curve] == [config.cap_db] * 2


def test_caution_changes_no_weight_and_is_kept_with_the_router(tree: Tree) -> None:
    samples, short = make_samples(tree, 60, seed=1), dataclasses.replace(QUICK, num_epochs=1)
    bold, careful = (
        train(tree, samples, dataclasses.replace(short, caution=caution)) for caution in (0.0, 2.0)
    )
    assert to_bytes(bold) == to_bytes(careful)
    assert (bold.router.caution, careful.router.caution) == (0.0, 2.0)


def test_training_is_the_same_to_the_last_bit_for_one_seed(tree: Tree) -> None:
    samples = make_samples(tree, 150, seed=1)
    short = dataclasses.replace(QUICK, num_epochs=3)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = train(tree, samples, short)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = train(tree, samples, short), train(tree, samples, short, seed=1)
    assert first.curve == again.curve
    assert to_bytes(first) == to_bytes(again) != to_bytes(other)


def test_what_a_seed_trains_changes_only_with_the_version_of_the_stage(tree: Tree) -> None:
    """Stored routers have keys of their inputs: new draws or steps need VERSIONS["router"] + 1."""
    trained = train(tree, make_samples(tree, 150, seed=1), dataclasses.replace(QUICK, num_epochs=3))
    assert VERSIONS["router"] == 7
    assert [epoch.loss for epoch in trained.curve] == pytest.approx(
        [16.7009, 13.8313, 12.4486], rel=1e-4
    )


def to_bytes(trained: TrainedRouter) -> bytes:
    return safetensors.torch.save(trained.router.state_dict())


def test_the_estimate_of_the_degradation_lies_nearest_to_the_centroid_of_its_leaf(
    tree: Tree,
) -> None:
    samples = make_samples(tree, 600, seed=1)
    config = dataclasses.replace(QUICK, alpha=1.0, learning_rate=3e-3, num_cost_heads=1)
    trained = train(tree, samples, config)
    points = torch.from_numpy(tree.standardise(samples.embeddings))
    with torch.inference_mode():
        estimate = trained.router(points).degradation.numpy()
    distances = np.square(estimate[:, None] - tree.leaf_centroids[None]).sum(axis=2)
    assert (distances.argmin(axis=1) == samples.leaves).mean() > 0.95


def test_the_best_pass_on_held_out_samples_is_kept(plain: TrainedRouter) -> None:
    assert plain.held_out_regret_db <= min(epoch.held_out_regret_db for epoch in plain.curve)
    assert not plain.router.training


@pytest.mark.parametrize("objective", ["cost", "paper"])
def test_more_passes_never_keep_a_worse_one(tree: Tree, objective: Objective) -> None:
    """A rate far too high after the first passes: the weights are those of a pass before."""
    samples = make_samples(tree, 300, seed=1)
    config = dataclasses.replace(
        QUICK, objective=objective, num_cost_heads=1, held_out_fraction=0.5, learning_rate=0.3
    )
    trained = train(tree, samples, config)
    routed = samples.psnr.max(axis=1) - routed_psnr(tree, trained, samples)
    last = trained.curve[-1]
    assert trained.held_out_regret_db < last.held_out_regret_db
    assert routed.mean() < max(last.held_out_regret_db, last.train_regret_db)


def test_the_papers_objective_trains_too(tree: Tree) -> None:
    config = dataclasses.replace(QUICK, objective="paper", num_epochs=5)
    trained = train(tree, make_samples(tree, 200, seed=1), config)
    assert all(np.isfinite(epoch.loss) for epoch in trained.curve)


def test_too_few_samples_end_in_one_sentence(tree: Tree) -> None:
    with pytest.raises(ConfigError, match="2 samples are too few"):
        train(tree, make_samples(tree, 2, seed=1))


def test_tables_of_different_lengths_are_refused(tree: Tree) -> None:
    samples = make_samples(tree, 20, seed=1)
    with pytest.raises(ValueError, match="20 embeddings, 19 rows of PSNR"):
        train_router(
            QUICK,
            tree,
            samples.embeddings,
            samples.psnr[:-1],
            samples.inputs,
            seed=0,
        )


def test_measures_tell_what_embeddings_do_not(tree: Tree) -> None:
    """Two kinds of pictures with the same embeddings: one is spoiled by every expert."""
    samples = make_samples(tree, 400, seed=1)
    is_clean = np.arange(400) % 2 == 0
    psnr, inputs = samples.psnr.copy(), samples.inputs.copy()
    psnr[is_clean], inputs[is_clean] = 20.0, 30.0
    rng = np.random.default_rng(0)
    measures = np.stack([is_clean + 0.1 * rng.standard_normal(400), np.full(400, 7.0)], axis=1)
    regrets = []
    for reads in (False, True):
        config = dataclasses.replace(QUICK, measures=reads)
        trained = train_router(
            config, tree, samples.embeddings, psnr, inputs, seed=0, measures=measures
        )
        assert trained.router.shape.num_measures == 2 * reads
        regrets.append(trained.held_out_regret_db)
    assert regrets[0] > 1.5
    assert regrets[1] < 0.5


def test_routers_that_read_measures_need_them(tree: Tree) -> None:
    samples = make_samples(tree, 100, seed=1)
    config = dataclasses.replace(QUICK, measures=True)
    with pytest.raises(ConfigError, match="were not measured; build again"):
        train(tree, samples, config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_epochs", 0), ("num_cost_heads", 0), ("batch_size", 1), ("batch_size", 0)),
        *(("learning_rate", 0.0), ("cap_db", -1.0), ("identical_db", 0.0)),
        *(("held_out_fraction", 2.0), ("held_out_fraction", 0.0), ("held_out_fraction", 1.0)),
        *(("alpha", -0.1), ("weight_decay", float("nan")), ("caution", -1.0)),
    ],
)
def test_settings_that_cannot_train_are_refused_before(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must .*, got {value}"):
        RouterConfig(**{name: value})  # type: ignore[arg-type]


def test_a_pass_that_takes_no_step_is_no_training(tree: Tree) -> None:
    """As with batches of one sample, which settings refuse now and earlier versions took."""
    config = copy.copy(QUICK)
    object.__setattr__(config, "batch_size", 1)
    with pytest.raises(TrainingError, match="over 32 samples took no step"):
        train(tree, make_samples(tree, 40, seed=1), config)


def test_a_loss_that_is_not_finite_stops_the_training(tree: Tree) -> None:
    config = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(TrainingError, match="learning_rate=1e"):
        train(tree, make_samples(tree, 200, seed=1), config)
