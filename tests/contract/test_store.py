"""The stores in memory and on RocksDB keep marks and positions alike."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.commit_metadata import binding
from consumer.errors import StoreError, StoreLostError
from consumer.event import TopicPartition
from consumer.messages import Marks, Reached
from consumer.state_records import UNBOUND
from tests.support.store import DiskMachine, MemoryMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.support.store import Keeper, Machine

TP = TopicPartition("conversions", 0)
OTHER = TopicPartition("conversions", 1)
NOW = 1_790_000_000_000
HERE = binding("cluster", "state topic")
MADE_AGAIN = binding("cluster", "state topic made again")
ELSEWHERE = binding("another cluster", "state topic")


def key(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def marks(numbers: Iterable[int], at: int = NOW) -> list[Marks]:
    return [Marks(at, b"".join(map(key, numbers)))]


def reached(offset: int) -> Reached:
    return Reached(offset, offset // 2, offset * 3, HERE, (bytes([offset % 256]) * 16,))


@pytest.fixture(params=["memory", "rocksdb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """Starts a consumer's stores; each start finds what the ones before it left."""
    if request.param == "memory":
        yield MemoryMachine()
        return
    disk = DiskMachine(tmp_path)
    yield disk
    disk.stop()


def test_a_new_store_holds_nothing_and_has_come_nowhere(machine: Machine) -> None:
    """Everything is then read from the state topic."""
    stores = machine.start()
    assert stores.open(TP, HERE) is None
    assert stores.accepted_at(TP, [key(1)]) == [None]


def test_what_was_marked_is_found_with_its_time(machine: Machine) -> None:
    """Answers come in the order of the keys asked for, None where there is no mark."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, [*marks([1]), *marks([2, 3], NOW + 5)], reached(1))
    assert stores.accepted_at(TP, [key(2), key(9), key(1), key(3)]) == [NOW + 5, None, NOW, NOW + 5]


def test_asking_for_nothing_and_marking_nothing_are_fine(machine: Machine) -> None:
    """A chunk of the state topic without acceptances moves the position alone."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, [], reached(1))
    stores.mark(TP, [Marks(NOW, b"")], reached(2))
    assert stores.accepted_at(TP, []) == []
    assert stores.open(TP, HERE) == reached(2)


def test_the_latest_acceptance_of_a_key_counts(machine: Machine) -> None:
    """An event delivered again after its window begins a new one; also within one write."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, [*marks([1]), *marks([2])], reached(1))
    stores.mark(TP, [*marks([1], NOW + 2000), *marks([1], NOW + 1000)], reached(2))
    assert stores.accepted_at(TP, [key(1), key(2)]) == [NOW + 1000, NOW]


def test_partitions_keep_their_marks_apart(machine: Machine) -> None:
    """A partition that moves away takes its own marks and position and no others."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    assert stores.open(OTHER, HERE) is None
    assert stores.accepted_at(OTHER, [key(1)]) == [None]


def test_marks_and_position_are_there_after_closing_and_starting_again(machine: Machine) -> None:
    """A restart finds every mark of the process before, and goes on where that was."""
    first = machine.start()
    first.open(TP, HERE)
    first.mark(TP, marks(range(2000)), reached(7))
    first.close_all()
    second = machine.start()
    assert second.open(TP, HERE) == reached(7)
    found = second.accepted_at(TP, [key(number) for number in range(2001)])
    assert found == [*[NOW] * 2000, None]


def test_an_open_store_can_be_opened_again(machine: Machine) -> None:
    """Taking a partition over anew asks the store how far it has come."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    assert stores.open(TP, HERE) == reached(1)
    assert stores.accepted_at(TP, [key(1)]) == [NOW]


def test_marks_of_another_cluster_are_wiped(machine: Machine) -> None:
    """A directory that was carried to another cluster knows nothing of its events."""
    first = machine.start()
    first.open(TP, ELSEWHERE)
    first.mark(TP, marks([1]), reached(1))
    first.close_all()
    second = machine.start()
    assert second.open(TP, HERE) is None
    assert second.accepted_at(TP, [key(1)]) == [None]
    second.close_all()
    assert machine.start().open(TP, ELSEWHERE) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [(MADE_AGAIN, HERE), (UNBOUND, HERE), (HERE, UNBOUND)],
    ids=["made again", "first told", "no longer told"],
)
def test_marks_outlive_a_state_topic_that_is_another_one(
    machine: Machine, before: bytes, now: bytes
) -> None:
    """What TikTok accepted stays accepted; the position counted in another log."""
    first = machine.start()
    first.open(TP, before)
    first.mark(TP, marks([1]), reached(100))
    first.close_all()
    second = machine.start()
    assert second.open(TP, now) is None
    assert second.accepted_at(TP, [key(1)]) == [NOW]
    second.mark(TP, marks([2]), reached(3))
    second.close_all()
    third = machine.start()
    assert third.open(TP, now) == reached(3)
    assert third.accepted_at(TP, [key(1), key(2)]) == [NOW, NOW]


def test_a_broker_that_tells_no_ids_is_believed_to_be_the_same(machine: Machine) -> None:
    """Where no ids are told, a restart goes on where it was, too."""
    first = machine.start()
    first.open(TP, UNBOUND)
    first.mark(TP, marks([1]), reached(1))
    first.close_all()
    assert machine.start().open(TP, UNBOUND) == reached(1)


def test_a_store_wiped_while_open_is_lost_at_the_next_mark(machine: Machine) -> None:
    """Nothing more is written to files without a name; it says so until it is opened again."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    machine.wipe(TP)
    with pytest.raises(StoreLostError) as caught:
        stores.mark(TP, marks([2]), reached(2))
    assert caught.value.partition == TP
    with pytest.raises(StoreLostError):
        stores.accepted_at(TP, [key(1)])
    with pytest.raises(StoreLostError):
        stores.mark(TP, marks([2]), reached(2))
    assert stores.entries(TP) is None
    assert stores.open(TP, HERE) is None
    stores.mark(TP, marks([3]), reached(3))
    assert stores.accepted_at(TP, [key(1), key(2), key(3)]) == [None, None, NOW]


def test_a_new_store_that_was_wiped_stays_lost_until_it_is_opened(machine: Machine) -> None:
    """Also before its first mark: whoever asks has to take the partition over anew."""
    stores = machine.start()
    stores.open(TP, HERE)
    machine.wipe(TP)
    for _ in range(2):
        with pytest.raises(StoreLostError):
            stores.mark(TP, marks([1]), reached(1))
    assert stores.open(TP, HERE) is None
    stores.mark(TP, marks([1]), reached(1))


def test_until_a_wipe_is_noticed_nothing_accepted_is_unknown(machine: Machine) -> None:
    """Files that are open are read on, although they have no name any more."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks(range(100)), reached(1))
    machine.wipe(TP)
    assert stores.accepted_at(TP, [key(n) for n in range(100)]) == [NOW] * 100


def test_a_store_that_an_error_closed_goes_on_as_it_was(machine: Machine) -> None:
    """Opening anew is enough where nothing has changed, also before the first mark."""
    stores = machine.start()
    stores.open(TP, HERE)
    machine.interrupt(TP)
    assert stores.entries(TP) is None
    assert stores.accepted_at(TP, [key(1)]) == [None]
    stores.mark(TP, marks([1]), reached(1))
    machine.interrupt(TP)
    assert stores.accepted_at(TP, [key(1)]) == [NOW]
    machine.interrupt(TP)
    stores.mark(TP, marks([2]), reached(2))
    assert stores.accepted_at(TP, [key(1), key(2)]) == [NOW, NOW]


@pytest.mark.parametrize(
    "ask",
    [
        lambda stores: stores.accepted_at(TP, [key(1)]),
        lambda stores: stores.mark(TP, marks([2]), reached(2)),
    ],
    ids=["looked up", "marked"],
)
def test_a_store_that_an_error_closed_is_lost_if_it_is_not_what_it_was(
    machine: Machine, ask: Callable[[Keeper], object]
) -> None:
    """What is missing in it would be taken for never accepted."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    machine.interrupt(TP)
    machine.wipe(TP)
    for _ in range(2):
        with pytest.raises(StoreLostError):
            ask(stores)
    assert stores.open(TP, HERE) is None


def test_a_store_that_is_not_open_refuses_instead_of_forgetting(machine: Machine) -> None:
    """Nothing is looked up or written for a partition that was handed over, or never was ours."""
    stores = machine.start()
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    stores.close(TP)
    stores.close(TP)
    for tp in (TP, OTHER):
        with pytest.raises(StoreError) as caught:
            stores.mark(tp, marks([2]), reached(2))
        assert caught.value.partition == tp
        with pytest.raises(StoreError):
            stores.accepted_at(tp, [key(1)])
    assert stores.open(TP, HERE) == reached(1)
    assert stores.accepted_at(TP, [key(1), key(2)]) == [NOW, None]


def test_entries_tell_about_how_many_marks_there_are(machine: Machine) -> None:
    """The number is known while the store is open, and nothing is opened to learn it."""
    stores = machine.start()
    assert stores.entries(TP) is None
    stores.open(TP, HERE)
    stores.mark(TP, marks(range(1000)), reached(1))
    assert stores.entries(TP) == pytest.approx(1000, rel=0.1)
    stores.close(TP)
    assert stores.entries(TP) is None


def test_entries_are_known_after_restarts(machine: Machine) -> None:
    """`/status` and the metric go on where they were."""
    for number in range(3):
        stores = machine.start()
        stores.open(TP, HERE)
        stores.mark(TP, marks(range(number * 1000, number * 1000 + 1000)), reached(number))
        stores.close_all()
    stores = machine.start()
    stores.open(TP, HERE)
    assert stores.entries(TP) == pytest.approx(3000, rel=0.1)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    writes=st.lists(
        st.lists(
            st.tuples(st.integers(0, 2**63), st.lists(st.integers(0, 30), max_size=8)), max_size=3
        ),
        max_size=6,
    ),
    restarted_after=st.sets(st.integers(0, 5)),
    interrupted_after=st.sets(st.integers(0, 5)),
)
def test_a_store_is_a_dictionary_with_a_position_that_survives_restarts(
    machine: Machine,
    writes: list[list[tuple[int, list[int]]]],
    restarted_after: set[int],
    interrupted_after: set[int],
) -> None:
    """Whatever is marked in whatever writes, with restarts and errors between, is what is found."""
    tp = TopicPartition("properties", next(_RUNS))
    model: dict[int, int] = {}
    at: Reached | None = None
    stores = machine.start()
    stores.open(tp, HERE)
    for number, write in enumerate(writes):
        together = [mark for at_ms, numbers in write for mark in marks(numbers, at_ms)]
        stores.mark(tp, together, at := reached(number))
        model.update({n: at_ms for at_ms, numbers in write for n in numbers})
        if number in restarted_after:
            stores.close_all()
            stores = machine.start()
            assert stores.open(tp, HERE) == at
        elif number in interrupted_after:
            machine.interrupt(tp)
    assert stores.accepted_at(tp, [key(n) for n in range(31)]) == [model.get(n) for n in range(31)]
    assert stores.open(tp, HERE) == at
    stores.close_all()


_RUNS = iter(range(1_000_000))
