"""The stores in memory and on RocksDB keep marks alike; RocksDB also through what ends a process.

Most cases run on both. What only a disk can show (a killed process, a full disk, a directory in
use) runs on RocksDB alone.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import resource
import signal
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.errors import StoreError
from consumer.event import TopicPartition
from consumer.store import Stores, _file_name
from tests.support.store import MemoryStores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from consumer.dedup import Store

WINDOW = 48 * 3600.0
TP = TopicPartition("conversions", 0)
OTHER = TopicPartition("conversions", 1)
NOW = 1_790_000_000_000

spawn = multiprocessing.get_context("spawn")


class Keeper(Protocol):
    """What the consumer asks of its stores."""

    def open(self, tp: TopicPartition) -> Store:
        """The partition's store."""

    def entries(self, tp: TopicPartition) -> int | None:
        """How many marks it holds, if it is open."""

    def close(self, tp: TopicPartition) -> None:
        """Gives it up."""

    def close_all(self) -> None:
        """Gives all up."""


def key(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def marks(numbers: range) -> list[tuple[bytes, int]]:
    return [(key(number), NOW + number) for number in numbers]


@pytest.fixture(params=["memory", "rocksdb"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Keeper]]:
    """Starts a consumer's stores; each start finds what the ones before it left."""
    disk: dict[TopicPartition, dict[bytes, int]] = {}
    started: list[Keeper] = []

    def begin() -> Keeper:
        keeper: Keeper
        if request.param == "memory":
            keeper = MemoryStores(disk)
        else:
            keeper = Stores(tmp_path, "group", WINDOW)
        started.append(keeper)
        return keeper

    yield begin
    for keeper in started:
        keeper.close_all()


def test_what_was_marked_is_found_with_its_time(start: Callable[[], Keeper]) -> None:
    """Answers come in the order of the keys asked for, None where there is no mark."""
    store = start().open(TP)
    store.mark([(key(1), NOW), (key(2), NOW + 5)])
    assert store.accepted_at([key(2), key(3), key(1)]) == [NOW + 5, None, NOW]


def test_asking_for_nothing_and_marking_nothing_are_fine(start: Callable[[], Keeper]) -> None:
    """Empty chunks need no special case in the caller."""
    store = start().open(TP)
    store.mark([])
    assert store.accepted_at([]) == []


def test_the_latest_acceptance_of_a_key_counts(start: Callable[[], Keeper]) -> None:
    """An event delivered again after its window begins a new one."""
    store = start().open(TP)
    store.mark([(key(1), NOW)])
    store.mark([(key(1), NOW + 1000)])
    assert store.accepted_at([key(1)]) == [NOW + 1000]


def test_partitions_keep_their_marks_apart(start: Callable[[], Keeper]) -> None:
    """A partition that moves away takes its own marks and no others."""
    keeper = start()
    keeper.open(TP).mark([(key(1), NOW)])
    assert keeper.open(OTHER).accepted_at([key(1)]) == [None]


def test_marks_are_there_after_closing_and_starting_again(start: Callable[[], Keeper]) -> None:
    """A restart finds every mark of the process before."""
    first = start()
    first.open(TP).mark(marks(range(2000)))
    first.close_all()
    found = start().open(TP).accepted_at([key(number) for number in range(2001)])
    assert found == [*(NOW + number for number in range(2000)), None]


def test_a_closed_store_refuses_instead_of_forgetting(start: Callable[[], Keeper]) -> None:
    """Whoever still holds a store of a partition that was handed over cannot write to it."""
    keeper = start()
    store = keeper.open(TP)
    keeper.close(TP)
    keeper.close(TP)
    with pytest.raises(StoreError) as caught:
        store.mark([(key(1), NOW)])
    assert caught.value.partition == TP
    assert keeper.open(TP).accepted_at([key(1)]) == [None]


def test_entries_tell_about_how_many_marks_there_are(start: Callable[[], Keeper]) -> None:
    """The number is known while the store is open, and nothing is opened to learn it."""
    keeper = start()
    assert keeper.entries(TP) is None
    keeper.open(TP).mark(marks(range(1000)))
    assert keeper.entries(TP) == pytest.approx(1000, rel=0.1)
    keeper.close(TP)
    assert keeper.entries(TP) is None


def test_entries_are_known_after_restarts(start: Callable[[], Keeper]) -> None:
    """`/status` and the metric go on where they were."""
    for number in range(3):
        keeper = start()
        keeper.open(TP).mark(marks(range(number * 1000, number * 1000 + 1000)))
        keeper.close_all()
    keeper = start()
    keeper.open(TP)
    assert keeper.entries(TP) == pytest.approx(3000, rel=0.1)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**63)), max_size=8), max_size=6
    ),
    reopened_after=st.sets(st.integers(0, 5)),
)
def test_a_store_is_a_dictionary_that_survives_restarts(
    start: Callable[[], Keeper],
    batches: list[list[tuple[int, int]]],
    reopened_after: set[int],
) -> None:
    """Whatever is marked in whatever batches, with restarts between them, is what is found."""
    run = next(_RUNS)
    tp = TopicPartition("properties", run)
    model: dict[int, int] = {}
    keeper = start()
    for number, batch in enumerate(batches):
        keeper.open(tp).mark([(key(n), at) for n, at in batch])
        model.update(batch)
        if number in reopened_after:
            keeper.close_all()
            keeper = start()
    assert keeper.open(tp).accepted_at([key(n) for n in range(31)]) == [
        model.get(n) for n in range(31)
    ]
    keeper.close_all()


_RUNS = iter(range(1_000_000))


def _mark_until_killed(directory: Path, acknowledged: Connection) -> None:
    store = Stores(directory, "group", WINDOW).open(TP)
    for base in range(0, 10_000_000, 100):
        store.mark(marks(range(base, base + 100)))
        acknowledged.send(base + 100)


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    """`kill -9` in the midst of writing leaves every mark of a batch that had returned."""
    receiver, sender = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=_mark_until_killed, args=(tmp_path, sender))
    writer.start()
    sender.close()
    acknowledged = 0
    while acknowledged < 20_000:
        acknowledged = receiver.recv()
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    # What the writer had still said before it died.
    try:
        while True:
            acknowledged = receiver.recv()
    except EOFError:
        receiver.close()
    keeper = Stores(tmp_path, "group", WINDOW)
    found = keeper.open(TP).accepted_at([key(number) for number in range(acknowledged)])
    keeper.close_all()
    assert found == [NOW + number for number in range(acknowledged)]


def _hold(directory: Path, connection: Connection) -> None:
    keeper = Stores(directory, "group", WINDOW)
    keeper.open(TP).mark([(key(1), NOW)])
    connection.send("open")
    connection.recv()
    keeper.close_all()
    connection.send("closed")
    connection.recv()


def test_two_processes_cannot_open_one_directory(tmp_path: Path) -> None:
    """The second one is told what to do, and gets in once the first has given it up."""
    ours, theirs = spawn.Pipe()
    holder = spawn.Process(target=_hold, args=(tmp_path, theirs))
    holder.start()
    assert ours.recv() == "open"
    keeper = Stores(tmp_path, "group", WINDOW)
    with pytest.raises(StoreError, match=r"another process has .*own dedup\.directory") as caught:
        keeper.open(TP)
    assert caught.value.partition == TP
    assert str(tmp_path) in caught.value.detail
    assert keeper.entries(TP) is None
    ours.send("close")
    assert ours.recv() == "closed"
    assert keeper.open(TP).accepted_at([key(1)]) == [NOW]
    keeper.close_all()
    ours.send("end")
    holder.join()
    assert holder.exitcode == 0


def _fill_the_disk(directory: Path, connection: Connection) -> None:
    # A limit on the size of files stands for the disk: writes fail in the same way.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Stores(directory, "group", WINDOW).open(TP)
    store.mark(marks(range(100)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    marked, errors = 100, 0
    while not errors:
        try:
            store.mark(marks(range(marked, marked + 100)))
        except StoreError:
            errors += 1
        else:
            marked += 100
    try:
        store.mark(marks(range(marked, marked + 100_000)))
    except StoreError:
        errors += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.mark(marks(range(marked, marked + 50)))
    found = store.accepted_at([key(number) for number in range(marked + 100)])
    connection.send((errors, marked, found))


def test_a_full_disk_fails_marks_until_there_is_space_and_keeps_the_others(tmp_path: Path) -> None:
    """Nothing half written is found, nothing acknowledged is lost, and it goes on by itself."""
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_fill_the_disk, args=(tmp_path, sender))
    process.start()
    sender.close()
    errors, marked, found = receiver.recv()
    receiver.close()
    process.join()
    assert errors == 2
    assert found == [*(NOW + number for number in range(marked + 50)), *[None] * 50]


def test_a_path_that_cannot_be_a_directory_is_an_error_with_advice(tmp_path: Path) -> None:
    """The wrong `dedup.directory` is named; the process does not end over it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"is a file: name another dedup\.directory"):
        Stores(tmp_path / "file", "group", WINDOW).open(TP)


def test_a_damaged_directory_is_an_error_with_advice(tmp_path: Path) -> None:
    """Damage is never read as "not accepted yet": the store does not open."""
    keeper = Stores(tmp_path, "group", WINDOW)
    keeper.open(TP).mark(marks(range(10)))
    keeper.close_all()
    for current in tmp_path.rglob("CURRENT"):
        current.write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"damaged: move .* away"):
        keeper.open(TP)


def test_a_mark_of_another_shape_is_an_error(tmp_path: Path) -> None:
    """A directory that something else has written to is not taken for ours."""
    keeper = Stores(tmp_path, "group", WINDOW)
    store: Any = keeper.open(TP)
    store._database[key(1)] = b"short"
    with pytest.raises(StoreError):
        store.accepted_at([key(1)])
    keeper.close_all()


def test_compacting_after_restarts_takes_no_mark_that_still_counts(tmp_path: Path) -> None:
    """A directory opened again keeps its time-to-live: rocksdict's defaults lose all of it."""
    for number in range(6):
        keeper = Stores(tmp_path, "group", WINDOW)
        store: Any = keeper.open(TP)
        store.mark([(key(0), NOW), *marks(range(number * 100, number * 100 + 100))])
        store._database.flush()
        store._database.compact_range(None, None)
        keeper.close_all()
    keeper = Stores(tmp_path, "group", WINDOW)
    assert None not in keeper.open(TP).accepted_at([key(number) for number in range(600)])
    keeper.close_all()


def test_space_of_expired_marks_is_given_back_when_rocksdb_compacts(tmp_path: Path) -> None:
    """Time-to-live drops old marks from the disk, those of earlier runs too; not on reading."""
    keeper = Stores(tmp_path, "group", WINDOW)
    keeper.open(TP).mark(marks(range(20_000)))
    keeper.close_all()
    keeper._ttl_seconds = 1
    store: Any = keeper.open(TP)
    store._database.flush()
    time.sleep(2.1)
    assert store.accepted_at([key(1)]) == [NOW + 1]
    assert store._database.property_int_value("rocksdb.total-sst-files-size") > 500_000
    store._database.compact_range(None, None)
    assert store._database.property_int_value("rocksdb.total-sst-files-size") < 10_000
    assert store.accepted_at([key(1)]) == [None]
    keeper.close_all()


@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300), max_size=5
    )
)
@settings(max_examples=200, deadline=None)
def test_any_name_makes_one_safe_part_of_a_path(names: list[str]) -> None:
    """No group name climbs out of the directory, is too long for it, or meets another's."""
    made = [_file_name(name) for name in names]
    assert len(set(made)) == len(set(names))
    for part in made:
        assert re.fullmatch(r"[A-Za-z0-9._~%-]{1,200}", part)
        assert part not in {".", ".."}


def test_groups_and_topics_lie_where_the_documentation_says(tmp_path: Path) -> None:
    """`<directory>/<group>/<topic>/<partition>`, whatever the names."""
    keeper = Stores(tmp_path, "../team/a", WINDOW)
    keeper.open(TopicPartition("shop.events", 7))
    keeper.close_all()
    assert (tmp_path / "..%2Fteam%2Fa" / "shop.events" / "7" / "CURRENT").exists()


def test_nothing_secret_or_personal_is_in_its_repr(tmp_path: Path) -> None:
    """A store shows whose it is and its state, never a key."""
    keeper = Stores(tmp_path, "group", WINDOW)
    store = keeper.open(TP)
    assert repr(store) == "<RocksStore conversions/0 open>"
    keeper.close_all()
    assert repr(store) == "<RocksStore conversions/0 closed>"
