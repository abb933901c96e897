"""What is said where Ray cannot be started."""

import signal

import pytest

from expertree.errors import ResourceError
from expertree.orchestration import cluster
from expertree.orchestration.cluster import connect, own_sigterm
from expertree.pipeline.cluster_config import ClusterConfig


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("\nThe last 20 lines of dashboard.log:\nand then\n20 lines")  # noqa: TRY002

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", init)
    with (
        pytest.raises(ResourceError, match=r"^no connection to a:1: The last.*dashboard.log:$"),
        connect(ClusterConfig(address="a:1")),
    ):
        pass


def test_a_private_cluster_has_a_dashboard_if_its_lanes_need_one_or_somebody_asks() -> None:
    assert not ClusterConfig().starts_dashboard
    assert ClusterConfig(workers_per_lane=2).starts_dashboard
    assert ClusterConfig(dashboard=True).starts_dashboard
    assert not ClusterConfig(workers_per_lane=2, dashboard=False).starts_dashboard


def test_a_programs_own_handler_of_sigterm_outlives_the_one_that_ray_sets() -> None:
    def own(*_: object) -> None:
        """What the program does on SIGTERM."""

    before = signal.getsignal(signal.SIGTERM)
    try:
        for handler, expected in ((own, own), (signal.SIG_DFL, signal.SIG_IGN)):
            signal.signal(signal.SIGTERM, handler)
            with own_sigterm():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray sets one
            assert signal.getsignal(signal.SIGTERM) == expected
    finally:
        signal.signal(signal.SIGTERM, before)
