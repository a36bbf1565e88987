from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka_properties import FORBIDDEN_PROPERTIES, state_reader_properties


@given(user=st.dictionaries(st.sampled_from(sorted(FORBIDDEN_PROPERTIES)), st.just("x")))
def test_the_reader_never_commits_never_resets_and_waits_for_no_transaction(
    user: dict[str, str],
) -> None:
    """It stands beside the group, and what it reads from is decided by its caller."""
    complete = state_reader_properties(user, "g")
    assert complete["group.id"] == "g"
    assert complete["enable.auto.commit"] == complete["enable.auto.offset.store"] == "false"
    assert complete["auto.offset.reset"] == "error"
    assert complete["enable.partition.eof"] == "true"
    assert complete["isolation.level"] == "read_uncommitted"


def test_the_reader_gets_connection_and_security_and_nothing_of_the_group_or_the_producer() -> None:
    """It is no member: an instance id of its own would fence the real one."""
    user = {
        "bootstrap.servers": "h:1",
        "sasl.password": "p",
        "group.instance.id": "i",
        "group.protocol": "consumer",
        "session.timeout.ms": "6000",
        "linger.ms": "7",
        "queue.buffering.max.kbytes": "9",
    }
    complete = state_reader_properties(user, "g")
    assert {"bootstrap.servers": "h:1", "sasl.password": "p"}.items() <= complete.items()
    assert not (user.keys() - {"bootstrap.servers", "sasl.password"}) & complete.keys()
