"""Who selects whom: budgets, network policies, monitors and services."""

import pytest

from kustomized import Object
from manifests import (
    CLUSTERS,
    OBJECTS,
    PART,
    RENDERED,
    SERVICES,
    all_pods,
    cluster_of,
    labels_of_pods,
    of_kind,
    referenced,
)


@pytest.mark.parametrize("made", OBJECTS)
def test_a_selector_selects_pods_that_there_are(made: Object) -> None:
    if made["kind"] not in {"PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "Service"}:
        return
    spec = made["spec"]
    wanted = spec["podSelector"] if "podSelector" in spec else spec["selector"]
    wanted = wanted.get("matchLabels", wanted)
    assert [labels for labels in all_pods() if wanted.items() <= labels.items()]
    for peer in referenced(spec, "podSelector"):
        assert [own for own in all_pods() if peer["matchLabels"].items() <= own.items()]


@pytest.mark.parametrize("made", CLUSTERS)
def test_every_pod_of_ray_is_behind_the_network_policy_and_watched(made: Object) -> None:
    for labels in labels_of_pods(made):
        assert PART.items() <= labels.items()
    ((_, monitor),) = of_kind("PodMonitor")
    assert monitor["spec"]["selector"] == {"matchLabels": PART}


@pytest.mark.parametrize("name", [name for name, _ in of_kind("RayJob") + of_kind("RayService")])
def test_a_budget_keeps_the_head_and_no_other_jobs(name: str) -> None:
    objects = RENDERED[name]
    (owner,) = [made for made in objects if made["kind"] in {"RayJob", "RayService"}]
    head, *others = labels_of_pods(owner)
    keeping = [
        made["spec"]["selector"]["matchLabels"]
        for made in objects
        if made["kind"] == "PodDisruptionBudget"
        and made["spec"]["selector"]["matchLabels"].items() <= head.items()
    ]
    (selector,) = keeping
    assert not [labels for labels in others if selector.items() <= labels.items()]
    elsewhere = [
        labels
        for other, made in of_kind("RayJob") + of_kind("RayService")
        if made["metadata"]["name"] != owner["metadata"]["name"] or made["kind"] != owner["kind"]
        for labels in labels_of_pods(made)
    ]
    assert not [labels for labels in elsewhere if selector.items() <= labels.items()]


@pytest.mark.parametrize("made", SERVICES)
def test_a_budget_leaves_a_node_to_be_drained(made: Object) -> None:
    (budget,) = [
        own
        for name, own in of_kind("PodDisruptionBudget")
        if own["metadata"]["name"] == "expertree-endpoint" and name.endswith("cpu")
    ]
    selector = budget["spec"]["selector"]["matchLabels"]
    staying = sum(
        group["minReplicas"]
        for group, labels in zip(
            cluster_of(made)["workerGroupSpecs"], labels_of_pods(made)[1:], strict=True
        )
        if selector.items() <= labels.items()
    )
    assert budget["spec"]["minAvailable"] < staying
