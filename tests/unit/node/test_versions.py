"""What a node says that it speaks: the release's range, unless a test says otherwise."""

import pytest

from quorate.errors import SettingsError
from quorate.node.versions import VARIABLE, spoken_versions
from quorate.protocol.peer import PEER_PROTOCOL_VERSION, PEER_PROTOCOL_VERSION_MIN


def test_the_range_of_the_release_or_of_a_test() -> None:
    """Nothing set: what the code can do. Set: one version, or a range."""
    assert spoken_versions({}) == (PEER_PROTOCOL_VERSION_MIN, PEER_PROTOCOL_VERSION)
    assert spoken_versions({VARIABLE: "7"}) == (7, 7)
    assert spoken_versions({VARIABLE: "2-9"}) == (2, 9)


@pytest.mark.parametrize("text", ["x", "2-", "-2", "3-2", "0", "1-70000", "1-2-3"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    """A misspelt range must not quietly become another."""
    with pytest.raises(SettingsError, match=VARIABLE):
        spoken_versions({VARIABLE: text})
