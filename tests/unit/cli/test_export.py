"""The verb that exports, where it cannot."""

import pytest

from expertree.cli.export import main


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("gs2://bucket/x", "error: storage 'gs2://bucket/x' cannot be opened: Unrecognized"),
        ("out\udcff", "its name is no UTF-8"),
    ],
)
def test_an_output_that_cannot_be_opened_is_one_sentence(
    bundle_path, capfd, output, message
) -> None:
    assert main([str(bundle_path), "-o", output]) == 2
    assert message in capfd.readouterr().err
