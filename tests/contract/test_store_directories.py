"""Where stores lie, and that no two processes ever share one: who comes later goes beside it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import StoreError, StoreLostError
from consumer.event import TopicPartition
from consumer.store import TTL_MARGIN_SECONDS, Stores
from consumer.store_database import MOST_IN_USE, file_name
from tests.contract.test_store import HERE, NOW, OTHER, TP, key, marks, reached
from tests.support.store import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

spawn = multiprocessing.get_context("spawn")


class Holder:
    """A process that has a store open, with one mark in a table of it, until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self._ours, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_hold, args=(directory, theirs))
        self.process.start()
        theirs.close()
        assert self._ours.recv() == "open"

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def mark(self) -> None:
        """Has it mark one more key."""
        self._ours.send("mark")
        assert self._ours.recv() == "marked"

    def end(self) -> None:
        """Has it close its store and end."""
        self._ours.send("end")
        self.process.join()
        self._ours.close()
        assert self.process.exitcode == 0


def _hold(directory: Path, connection: Connection) -> None:
    stores = Stores(directory, "group", WINDOW)
    stores.open(TP, HERE)
    stores.mark(TP, marks([1]), reached(1))
    store: Any = stores._stores[TP]
    store._database.flush()
    connection.send("open")
    if connection.recv() == "mark":
        stores.mark(TP, marks([2]), reached(2))
        connection.send("marked")
        connection.recv()
    stores.close_all()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    holder = Holder(tmp_path)
    yield holder
    if holder.process.is_alive():
        holder.process.kill()
    holder.process.join()


def databases(tmp_path: Path) -> list[Path]:
    """Those of the one partition that is used here."""
    return list((tmp_path / "group" / TP.topic / str(TP.partition)).iterdir())


def test_a_store_that_another_process_has_open_is_left_to_it(
    tmp_path: Path, holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one is made beside it, which is said once; later the latest is taken."""
    (theirs,) = databases(tmp_path)
    stores = Stores(tmp_path, "group", WINDOW)
    assert stores.open(TP, HERE) is None
    assert stores.accepted_at(TP, [key(1)]) == [None]
    stores.mark(TP, marks([7]), reached(7))
    assert stores.open(TP, HERE) == reached(7)
    (ours,) = (path for path in databases(tmp_path) if path != theirs)
    assert [record.getMessage() for record in caplog.records] == [
        f"deduplication store of conversions/0: {ours} is new: 1 beside it are in use by others"
    ]
    holder.end()
    stores.close_all()
    assert stores.open(TP, HERE) == reached(7)
    stores.close_all()
    shutil.rmtree(ours)
    assert stores.open(TP, HERE) == reached(1)
    stores.close_all()
    assert databases(tmp_path) == [theirs]


def test_a_store_of_a_stopped_process_is_not_waited_for(tmp_path: Path, holder: Holder) -> None:
    """Its lock holds as long as it exists; when it wakes up, both have their own."""
    holder.signal(signal.SIGSTOP)
    stores = Stores(tmp_path, "group", WINDOW)
    assert stores.open(TP, HERE) is None
    stores.mark(TP, marks([7]), reached(7))
    holder.signal(signal.SIGCONT)
    holder.mark()
    holder.end()
    assert stores.accepted_at(TP, [key(1), key(2), key(7)]) == [None, None, NOW]
    stores.close_all()


def test_two_in_one_process_do_not_share_a_store_either(tmp_path: Path) -> None:
    """Closing one of them leaves the other's lock alone."""
    first, second, third = (Stores(tmp_path, "group", WINDOW) for _ in range(3))
    for number, stores in enumerate((first, second), start=1):
        assert stores.open(TP, HERE) is None
        stores.mark(TP, marks([number]), reached(number))
    second.close_all()
    assert third.open(TP, HERE) == reached(2)
    assert first.accepted_at(TP, [key(1), key(2)]) == [NOW, None]
    first.close_all()
    third.close_all()


def test_when_all_directories_are_taken_it_says_so_and_waits(tmp_path: Path) -> None:
    """The number of directories is bounded; one that becomes free is used at the next try."""
    holders = [Stores(tmp_path, "group", WINDOW) for _ in range(MOST_IN_USE)]
    for stores in holders:
        stores.open(TP, HERE)
    late = Stores(tmp_path, "group", WINDOW)
    with pytest.raises(StoreError, match=r"are in use: stop .*lock") as caught:
        late.open(TP, HERE)
    assert caught.value.partition == TP
    assert not isinstance(caught.value, StoreLostError)
    assert str(tmp_path) in caught.value.detail
    assert late.entries(TP) is None
    assert late.open(OTHER, HERE) is None
    holders[3].close_all()
    assert late.open(TP, HERE) is None
    for stores in (*holders, late):
        stores.close_all()
    assert len(databases(tmp_path)) == MOST_IN_USE


def test_a_store_that_was_wiped_while_open_never_meets_its_successor(tmp_path: Path) -> None:
    """RocksDB writes by name when it is closed: it must not do so among the successor's files."""
    stores = Stores(tmp_path, "group", WINDOW)
    stores.open(TP, HERE)
    stores.mark(TP, marks([7]), reached(7))
    shutil.rmtree(tmp_path / "group")
    successor = Holder(tmp_path)
    with pytest.raises(StoreLostError, match="deleted"):
        stores.mark(TP, marks([8]), reached(8))
    stores.close_all()
    successor.mark()
    successor.signal(signal.SIGKILL)
    successor.process.join()
    assert stores.open(TP, HERE) == reached(2)
    assert stores.accepted_at(TP, [key(1), key(2), key(7)]) == [NOW, NOW, None]
    stores.close_all()


def test_what_is_left_of_others_is_wiped_when_nothing_in_it_counts_any_more(
    tmp_path: Path,
) -> None:
    """A store that was used beside another one does not stay on the disk for ever."""
    first, second = (Stores(tmp_path, "group", WINDOW) for _ in range(2))
    for stores in (first, second):
        stores.open(TP, HERE)
        stores.mark(TP, marks([1]), reached(1))
    second.close_all()
    (left,) = (path for path in databases(tmp_path) if path != first._stores[TP]._path)
    for age, stays in ((WINDOW, True), (WINDOW + TTL_MARGIN_SECONDS + 60, False)):
        for file in left.iterdir():
            os.utime(file, (time.time() - age,) * 2)
        assert first.open(TP, HERE) == reached(1)
        assert left.exists() is stays
    first.close_all()


@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300), max_size=5
    )
)
@settings(max_examples=200, deadline=None)
def test_any_name_makes_one_safe_part_of_a_path(names: list[str]) -> None:
    """No group name climbs out of the directory, is too long for it, or meets another's."""
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(set(names))
    for part in made:
        assert re.fullmatch(r"[A-Za-z0-9._~%-]{1,200}", part)
        assert part not in {".", ".."}


def test_groups_and_topics_lie_where_the_documentation_says(tmp_path: Path) -> None:
    """`<directory>/<group>/<topic>/<partition>`, whatever the names."""
    stores = Stores(tmp_path, "../team/a", WINDOW)
    stores.open(TopicPartition("shop.events", 7), HERE)
    stores.close_all()
    place = tmp_path / "..%2Fteam%2Fa" / "shop.events" / "7"
    assert [path.name for path in place.glob("*/CURRENT")] == ["CURRENT"]


def test_nothing_secret_or_personal_is_in_its_repr(tmp_path: Path) -> None:
    """A store shows whose it is and its state, never a key."""
    stores = Stores(tmp_path, "group", WINDOW)
    assert repr(stores) == f"<Stores {tmp_path}/group 0>"
    stores.open(TP, HERE)
    store = stores._stores[TP]
    assert repr(store) == "<RocksStore conversions/0 open>"
    stores.close_all()
    assert repr(store) == "<RocksStore conversions/0 closed>"
