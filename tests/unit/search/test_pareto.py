from expertree.search.pareto import front
from expertree.search.record import Objectives


def reached(psnr_in: float, psnr_out: float, gpu_hours: float) -> Objectives:
    return Objectives(psnr_in=psnr_in, psnr_out=psnr_out, gpu_hours=gpu_hours)


def test_who_is_beaten_in_everything_is_not_on_the_front() -> None:
    trials = {
        0: reached(24.0, 19.0, 1.0),
        1: reached(25.0, 18.0, 1.0),
        2: reached(23.9, 19.0, 1.0),
        3: reached(20.0, 15.0, 0.1),
        4: reached(20.0, 15.0, 0.2),
    }
    assert front(trials) == [0, 1, 3]


def test_equals_share_the_front() -> None:
    assert front({5: reached(1.0, 1.0, 1.0), 7: reached(1.0, 1.0, 1.0)}) == [5, 7]
