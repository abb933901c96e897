"""The record of a run that never was, with numbers of a plausible size."""

import numpy as np

from expertree.report import Run

TASKS = ("low_light", "blur", "noise", "rain", "snow", "haze", "jpeg")


BASE_DB = {
    "input": (15.9, 23.4, 20.3, 19.6, 18.1, 14.2, 25.8),
    "classical": (19.1, 23.8, 26.9, 22.0, 20.9, 17.1, 26.1),
    "one_network": (20.1, 23.0, 24.6, 22.3, 21.2, 17.9, 26.1),
    "one_network_tree": (20.9, 23.8, 25.4, 23.0, 22.1, 18.6, 26.2),
    "random_expert": (18.2, 21.9, 22.7, 20.8, 19.9, 16.4, 24.1),
    "root": (19.8, 22.8, 24.1, 21.9, 20.7, 17.5, 25.9),
    "finest_level": (23.4, 24.6, 27.1, 25.9, 24.8, 20.9, 27.0),
    "routed": (23.6, 24.9, 27.2, 26.0, 24.9, 21.2, 26.6),
    "best_level": (24.0, 25.1, 27.5, 26.3, 25.2, 21.9, 27.4),
    "best": (24.3, 25.4, 27.8, 26.7, 25.6, 22.6, 27.7),
}


GIVEN = {
    "input": (None, None, None),
    "classical": (None, None, None),
    "one_network": (28_800, 436_000, 9_870_000_000),
    "one_network_tree": (105_600, 436_000, 9_870_000_000),
    "root": (9_600, 436_000, 9_870_000_000),
}


NODES = (
    (0, 0, None, 2772, (("noise", 0.143), ("rain", 0.143), ("snow", 0.143), ("haze", 0.143))),
    (1, 1, 0, 396, (("haze", 0.97), ("low_light", 0.03))),
    (2, 1, 0, 1010, (("noise", 0.39), ("snow", 0.38), ("rain", 0.21))),
    (3, 1, 0, 402, (("low_light", 0.95), ("haze", 0.05))),
    (4, 1, 0, 964, (("blur", 0.41), ("jpeg", 0.40), ("rain", 0.17))),
    (5, 2, 1, 396, (("haze", 0.97), ("low_light", 0.03))),
    (6, 2, 2, 398, (("noise", 0.99),)),
    (7, 2, 2, 384, (("snow", 0.98), ("rain", 0.02))),
    (8, 2, 2, 228, (("rain", 0.94), ("snow", 0.05))),
    (9, 2, 3, 402, (("low_light", 0.95), ("haze", 0.05))),
    (10, 2, 4, 391, (("blur", 0.97), ("jpeg", 0.03))),
    (11, 2, 4, 388, (("jpeg", 0.96), ("blur", 0.04))),
    (12, 2, 4, 185, (("rain", 0.88), ("blur", 0.09))),
)


HARMED = {"input": 0.0, "classical": 0.09, "one_network": 0.14, "random_expert": 0.38}


LEAF_OF_TASK = {"haze": 0, "noise": 1, "snow": 2, "rain": 3, "low_light": 4, "blur": 5, "jpeg": 6}


PICTURES = ("input", "one_network_tree", "routed")


SCALES = {"pca": 9.0, "tsne": 20.0}


def made_up_run() -> Run:
    return {
        "title": "Bundled photographs, tree {1, 4, 8}",
        "created": "2025-11-21T06:12:40+00:00",
        "commit": "824e64e1c0ffee",
        "versions": {"expertree": "0.1.0", "torch": "2.14.0", "ray": "2.60.0", "python": "3.11.2"},
        "config": {
            "degradation": {"patch_px": 128, "num_train": 2772, "tasks": list(TASKS)},
            "hierarchy": {"groups": [1, 4, 8], "method": "kmeans", "metric": "l2"},
            "experts": {"backbone": {"name": "nafnet", "width": 16}, "learning_rate": 1e-3},
            "router": {"alpha": 0.1, "beta": 0.01, "objective": "expected_l1"},
            "seed": 0,
        },
        "cost": {"wall_s": 792.4, "expert_training_s": 1043.0, "num_experts_trained": 11},
        "machine": {"nodes": 1, "cpus": 2, "gpus": 0, "platform": "Linux x86_64"},
        "summary": {
            "psnr_rgb": {
                "in": _averages(19.61, 22.27, 22.17, 22.86, 24.91, 25.34),
                "out": _averages(16.41, 18.87, 18.97, 19.46, 20.94, 21.52),
            },
            "ssim": {
                "in": _averages(0.541, 0.650, 0.688, 0.694, 0.767, 0.774),
                "out": _averages(0.402, 0.520, 0.561, 0.573, 0.632, 0.645),
            },
            "harmed": {
                "in": _averages(0.0, 0.09, 0.14, 0.11, 0.03, 0.01),
                "out": _averages(0.0, 0.12, 0.11, 0.10, 0.06, 0.02),
            },
            "mixed": {
                "psnr_rgb": {
                    "in": _averages(14.1, 16.90, 18.16, 18.30, 18.85, 19.22),
                    "out": _averages(11.9, 14.20, 15.53, 15.70, 16.37, 16.61),
                },
                "gain_over": {"in": "one_network_tree", "out": "one_network_tree"},
                "gain_db": {"in": 0.55, "out": 0.67},
            },
            "gain_over": {"in": "one_network_tree", "out": "one_network_tree"},
            "gain_db": {"in": 2.05, "out": 1.48},
            "given": {
                "one_network": {"num_samples": 28_800, "num_experts_run": 1},
                "routed": {"num_samples": 28_800, "num_experts_run": 1},
            },
        },
        "tables": [
            _table(kind, distribution, shift)
            for kind, distribution, shift in (
                ("single", "in", 0.0),
                ("single", "out", -3.4),
                ("mixed", "in", -4.8),
                ("mixed", "out", -7.7),
            )
        ],
        "tree": {
            "groups": [1, 4, 8],
            "levels": [
                {"level": 0, "silhouette": None, "num_groups": 1},
                {"level": 1, "silhouette": 0.49, "num_groups": 4},
                {"level": 2, "silhouette": 0.63, "num_groups": 8},
            ],
            "nodes": [_node(*node) for node in NODES],
        },
        "routing": {"in": _routing(0.94), "out": _routing(0.78)},
        "shift": {"single": _shift(24.0, 2.0), "mixed": _shift(17.0, 1.4)},
        "embeddings": _embeddings(),
        "classical": {
            "low_light": "light by gamma (gamma 1.5)",
            "noise": "non-local means (weight 1)",
            "jpeg": "as it is",
        },
        "clean": {
            "num": 80,
            "left_as_is": 0.95,
            "least_psnr_db": 38.42,
            "mean_changed_db": 41.07,
        },
        "experts": [_expert("one_network", "alone", 28_800)]
        + [_expert("one_network_tree", "alone-tree", 105_600)]
        + [_expert(n[0], f"node-{n[0]:02d}", 9_600) for n in NODES if n[0] not in {5, 9}],
        "timeline": _timeline(),
        "stages": [
            {"name": name, "seconds": seconds, "cached": seconds < 1}
            for name, seconds in (
                ("degrade", 21.0),
                ("embed", 214.0),
                ("cluster", 3.1),
                ("shard", 0.4),
                ("train experts", 421.0),
                ("train routers", 31.0),
                ("evaluate", 88.0),
                ("bundle", 1.4),
            )
        ],
        "examples": [
            _example(task, distribution) for distribution in ("in", "out") for task in TASKS
        ],
        "skipped_photographs": [
            ["broken.jpg", "truncated: the file ends after 1,204 of 88,120 bytes"],
            ["notes.txt", "not an image"],
        ],
    }


def _table(kind: str, distribution: str, shift: float) -> dict:
    columns = list(TASKS) if kind == "single" else ["2 tasks", "3 tasks", "4 tasks or more"]
    rows = []
    for place, (method, base) in enumerate(BASE_DB.items()):
        factor = 1.0 if kind == "single" else 0.5
        psnr = [20 + factor * (value - 20) + shift for value in base[: len(columns)]]
        ssim = [min(0.35 + 0.019 * value, 0.99) for value in psnr]
        harmed = [HARMED.get(method, 0.04) * (1 + number % 3) / 2 for number in range(len(psnr))]
        num_samples, num_parameters, multiply_adds = GIVEN.get(method, GIVEN["one_network"])
        rows.append(
            {
                "method": method,
                "psnr_rgb": [*psnr, sum(psnr) / len(psnr)],
                "psnr_y": [*(v + 1.3 for v in psnr), sum(psnr) / len(psnr) + 1.3],
                "ssim": [*ssim, sum(ssim) / len(ssim)],
                "harmed": [*harmed, sum(harmed) / len(harmed)],
                "quartiles_db": [psnr[-1] - 7 + 4.5 * quarter for quarter in range(4)],
                "num_samples": num_samples,
                "num_parameters": num_parameters,
                "multiply_adds_512": multiply_adds if place else None,
            }
        )
    return {
        "distribution": distribution,
        "kind": kind,
        "columns": [*columns, "average"],
        "quartile_bounds_db": [16.2 + shift, 19.7 + shift, 23.1 + shift],
        "rows": rows,
    }


def _node(index: int, level: int, parent: int | None, num_samples: int, dominant: tuple) -> dict:
    expert = {5: 1, 9: 3}.get(index, index)
    gain = None if parent is None or expert != index else 0.31 + 0.17 * (index % 5)
    return {
        "index": index,
        "level": level,
        "parent": parent,
        "expert": expert,
        "num_samples": num_samples,
        "dominant": [list(entry) for entry in dominant],
        "gain_over_parent_db": -0.12 if index == 12 else gain,
        "share_routed": (0.02, 0.05, 0.12, 0.08)[index % 4] if level == 1 else 0.09 * (level / 2),
    }


def _embeddings() -> dict:
    rng = np.random.default_rng(11)
    tasks = [*TASKS, "mixed"] * 12
    degrees = {"low_light": "heavy low-light", "haze": "normal haze", "jpeg": "medium compression"}
    angles = np.array([[2, *TASKS].index(task) if task != "mixed" else 0 for task in tasks])
    centres = np.stack([np.cos(angles * 0.9), np.sin(angles * 0.9)], axis=1) * (angles > 0)[:, None]
    places = {name: scale * centres + rng.normal(size=(96, 2)) for name, scale in SCALES.items()}
    return {
        **{name: values.round(3).tolist() for name, values in places.items()},
        "degradations": tasks,
        "captions": [
            "thick haze, large rain" if task == "mixed" else degrees.get(task, f"large {task}")
            for task in tasks
        ],
        "distributions": ["in", "out"] * 48,
        "separation": [
            {"label": task, "num_samples": 12, "silhouette": 0.41, "purity": 0.93}
            for task in (*TASKS, "mixed")
        ],
    }


def _shift(best_db: float, gain_db: float) -> dict[str, list[float]]:
    points = [number / 14 for number in range(15)]
    curves = {
        "input": -4.0,
        "one_network": 0.0,
        "one_network_tree": 0.6,
        "root": -0.4,
        "finest_level": gain_db,
        "routed": gain_db + 0.1,
        "best_level": gain_db + 0.5,
    }
    psnr = {name: [best_db + more - 6.0 * p for p in points] for name, more in curves.items()}
    levels = {"mean_level": [1.9 - 0.3 * p for p in points], "best_mean_level": [1.8] * 15}
    return {"point": points, **levels, **psnr}


def _routing(sure: float) -> dict:
    leaves, levels, as_is = [], [], []
    for number, task in enumerate(TASKS):
        row = [(1 - sure) / 7] * 8
        row[LEAF_OF_TASK[task]] = sure
        if task == "rain":
            row[LEAF_OF_TASK[task]], row[7] = 0.6 * sure, row[7] + 0.4 * sure
        left = {"jpeg": 0.12, "blur": 0.04}.get(task, 0.0)
        as_is.append(left)
        leaves.append([(1 - left) * share for share in row])
        coarse, middle = 0.02 + 0.01 * number, 0.10 + 0.05 * (number % 4)
        shares = [coarse, middle, 1 - coarse - middle]
        levels.append([(1 - left) * share for share in shares])
    return {
        "rows": list(TASKS),
        "leaves": leaves,
        "levels": levels,
        "as_is": as_is,
        "share_as_is": sum(as_is) / len(as_is),
        "agreement_with_best_level": 0.62 * sure,
        "lost_db": 0.43 / sure,
    }


def _averages(*values: float) -> dict[str, float]:
    names = ("input", "classical", "one_network", "one_network_tree", "routed", "best_level")
    return dict(zip(names, values, strict=True))


def _expert(role: int | str, key: str, num_samples: int) -> dict:
    index = role if isinstance(role, int) else None
    parents = {node: parent for node, _, parent, *_ in NODES}
    rng = np.random.default_rng(0 if index is None else index + 1)
    samples = np.linspace(80, num_samples, 120)
    seen = samples if index is None or index == 0 else samples + 9_600 * (1 + (index > 4))
    level = 0.052 + 0.006 * ((index or 0) % 5)
    loss = (level + 0.11 * np.exp(-seen / 3_000)) * np.exp(0.13 * rng.standard_normal(120))
    curve = {"samples": samples.round().tolist(), "loss": loss.round(5).tolist()}
    return {
        "index": index,
        "comparison": role if isinstance(role, str) else None,
        "key": key,
        "curve": curve,
        "seconds": 38.0 if index is not None else 112.0,
        "num_samples": num_samples,
        "parent": parents.get(index),
    }


def _timeline() -> list[dict]:
    spans = [
        _span(0, 0, 0.0, 41.0),
        _span("alone", 1, 0.0, 117.0),
        _span("alone-tree", 2, 0.0, 409.0),
        _span(1, 0, 41.5, 80.0),
        _span(2, 0, 80.2, 103.0, outcome="lost"),
        _span(2, 0, 108.0, 149.0, attempt=2),
        _span(3, 1, 117.4, 158.0),
    ]
    for place, node in enumerate((4, 6, 7, 8, 10, 11, 12)):
        start_s = 150.0 + 41 * (place // 2)
        spans.append(_span(node, place % 2, start_s + 8 * (place % 2), start_s + 39.0))
    return spans


def _span(
    expert: int | str,
    lane: int,
    start_s: float,
    end_s: float,
    attempt: int = 1,
    outcome: str = "done",
) -> dict:
    return {
        "expert": expert,
        "lane": lane,
        "start_s": start_s,
        "end_s": end_s,
        "attempt": attempt,
        "outcome": outcome,
    }


def _example(task: str, distribution: str) -> dict:
    column, leaf = TASKS.index(task), LEAF_OF_TASK[task]
    shift = 0.0 if distribution == "in" else -3.4
    leaf_probabilities = [0.012] * 8
    leaf_probabilities[leaf] = 1 - 0.012 * 7
    level = 1 if task in {"haze", "low_light"} else 2
    node = {0: 1, 4: 3}.get(leaf, 5 + leaf) if level == 1 else 5 + leaf
    image = f"{distribution}-{task}"
    return {
        "id": f"val_{distribution}/{task}/00012",
        "task": task,
        "caption": f"{'medium' if distribution == 'in' else 'large'} {task.replace('_', '-')}",
        "distribution": distribution,
        **{kind: f"{image}-{kind}" for kind in (*PICTURES, "clean")},
        "psnr": {kind: BASE_DB[kind][column] + shift for kind in PICTURES},
        "route": {
            "as_is": task == "jpeg",
            "level": level,
            "leaf": leaf,
            "node": node,
            "confidence": 0.916 if distribution == "in" else 0.58,
            "level_probabilities": [0.06, 0.72, 0.22] if level == 1 else [0.03, 0.15, 0.82],
            "leaf_probabilities": leaf_probabilities,
        },
    }
