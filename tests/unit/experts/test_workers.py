"""Two workers train what one would."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from expertree.experts.weights import load_expert
from expertree.experts.workers import ALONE, Workers
from expertree.storage import Storage

SCRIPT = Path(__file__).with_name("train_together.py")


@pytest.fixture
def train(tmp_path):
    """Starts one worker; none outlives the test."""
    started = []

    def start(rank, count):
        command = [sys.executable, str(SCRIPT), str(rank), str(count), str(tmp_path)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("files")
@pytest.mark.timeout(300)
def test_two_workers_give_the_network_that_one_gives(train, tmp_path):
    """The same batches, summed in another order: within 1e-4 after 13 steps."""
    started = [train(0, 2), train(1, 2), train(0, 1)]
    said = [process.communicate(timeout=200)[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert said[0] == said[1]
    assert float(said[0][1]) == pytest.approx(float(said[2][1]), rel=1e-4)
    found, expected = (load_expert(Storage.open(tmp_path / f"by-{n}")) for n in (2, 1))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_shares_are_a_partition_of_the_batch():
    shares = [Workers(rank=rank, count=3).share(range(10, 17)) for rank in range(3)]
    assert sorted(position for share in shares for position in share) == list(range(10, 17))
    assert ALONE.share(range(4)) == range(4)
    assert len(Workers(rank=2, count=3).share(range(2))) == 0


def test_a_rank_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="rank 2 does not exist among 2"):
        Workers(rank=2, count=2)
