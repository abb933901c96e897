import numpy as np

from expertree.search.importance import differing, importances


def trials(count: int) -> tuple[list[dict[str, float]], list[float]]:
    rng = np.random.default_rng(1)
    parameters = [
        {"tree.levels": float(n % 3), "router.alpha": float(rng.random()), "same": 1.0}
        for n in range(count)
    ]
    values = [own["tree.levels"] + 0.1 * float(rng.standard_normal()) for own in parameters]
    return parameters, values


def test_what_decides_is_clear_and_what_does_not_is_no_more_than_chance() -> None:
    parameters, values = trials(30)
    first, second = importances(parameters, {"psnr_in": values})
    assert (first["parameter"], first["trust"]) == ("tree.levels", "clear")
    assert first["share"] > 0.9
    assert (second["parameter"], second["trust"]) == ("router.alpha", "none")
    assert second["num_values"] == 3


def test_a_value_of_its_own_for_each_trial_says_nothing() -> None:
    names = [{"shape": name} for name in "abcdef"]
    (only,) = importances(names, {"psnr_in": [1.0, 5.0, 2.0, 9.0, 4.0, 3.0]})
    assert only["share"] == only["chance"] == 1.0
    assert only["trust"] == "none"


def test_two_trials_say_nothing() -> None:
    parameters, values = trials(2)
    assert importances(parameters, {"psnr_in": values}) == []


def test_only_parameters_that_differ_are_shown() -> None:
    parameters, _ = trials(4)
    assert differing(parameters) == ["tree.levels", "router.alpha"]
