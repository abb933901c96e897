"""Each worker has its share of a batch."""

import pytest

from expertree.training import ALONE, Workers


def test_shares_are_a_partition_of_the_batch():
    shares = [Workers(rank=rank, count=3).share(range(10, 17)) for rank in range(3)]
    assert sorted(position for share in shares for position in share) == list(range(10, 17))
    assert ALONE.share(range(4)) == range(4)
    assert len(Workers(rank=2, count=3).share(range(2))) == 0


def test_a_rank_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="rank 2 does not exist among 2"):
        Workers(rank=2, count=2)
