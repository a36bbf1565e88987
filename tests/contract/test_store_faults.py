"""What happens to a directory costs a rebuild; a position is believed only with all its marks.

On RocksDB alone: what only a disk can show.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from consumer.errors import StoreError, StoreLostError
from consumer.store import Stores
from tests.contract.test_store import HERE, NOW, TP, key, marks, reached
from tests.support.store import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

EACH = 100
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Stores]]:
    """Starts a process's stores, below one directory."""
    started: list[Stores] = []

    def begin() -> Stores:
        started.append(Stores(tmp_path, "group", WINDOW))
        return started[-1]

    yield begin
    for stores in started:
        stores.close_all()


def partition(tmp_path: Path) -> Path:
    return tmp_path / "group" / TP.topic / str(TP.partition)


def place(tmp_path: Path) -> Path:
    """The one database of the partition."""
    (path,) = partition(tmp_path).iterdir()
    return path


def crash(stores: Stores) -> None:
    """Ends the use of a store without its orderly end; what was written is on the disk."""
    store: Any = stores._stores.pop(TP)
    store._release()


def fill(stores: Stores, writes: range) -> None:
    """Marks so many keys with each of these positions."""
    for number in writes:
        stores.mark(TP, marks(range(number * EACH, number * EACH + EACH)), reached(number))


def missing(stores: Stores, writes: int) -> list[int]:
    """Which of the keys that were marked up to a position are not found."""
    found = stores.accepted_at(TP, [key(n) for n in range(writes * EACH)])
    return [n for n, at in enumerate(found) if at is None]


def _mark_until_killed(directory: Path, acknowledged: Connection) -> None:
    stores = Stores(directory, "group", WINDOW)
    stores.open(TP, HERE)
    for number in count():
        fill(stores, range(number, number + 1))
        acknowledged.send(number)


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    tmp_path: Path, start: Callable[[], Stores]
) -> None:
    """`kill -9` in the midst of writing leaves every mark up to the position that is found."""
    receiver, sender = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=_mark_until_killed, args=(tmp_path, sender))
    writer.start()
    sender.close()
    acknowledged = 0
    while acknowledged < 200:
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
    stores = start()
    found = stores.open(TP, HERE)
    assert found in (reached(acknowledged), reached(acknowledged + 1))
    assert missing(stores, acknowledged + 1) == []


def _fill_the_disk(directory: Path, connection: Connection) -> None:
    # A limit on the size of files stands for the disk: writes fail in the same way.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    stores = Stores(directory, "group", WINDOW)
    stores.open(TP, HERE)
    fill(stores, range(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    number, errors = 1, 0
    while not errors:
        try:
            fill(stores, range(number, number + 1))
        except StoreError as error:
            errors += not isinstance(error, StoreLostError)
        else:
            number += 1
    try:
        stores.mark(TP, marks(range(number * EACH, number * EACH + 100_000)), reached(number))
    except StoreError as error:
        errors += not isinstance(error, StoreLostError)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while True:
        try:
            fill(stores, range(number, number + 1))
        except StoreError as error:
            errors += "is being closed" not in str(error)
            time.sleep(0.05)
        else:
            break
    found = stores.accepted_at(TP, [key(n) for n in range((number + 2) * EACH)])
    connection.send((errors, number, found))


def test_a_full_disk_fails_marks_until_there_is_space_and_keeps_the_others(tmp_path: Path) -> None:
    """Nothing half written is found, nothing acknowledged is lost, and it goes on by itself."""
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_fill_the_disk, args=(tmp_path, sender))
    process.start()
    sender.close()
    errors, number, found = receiver.recv()
    receiver.close()
    process.join()
    assert errors == 2
    assert found == [*[NOW] * (number + 1) * EACH, *[None] * EACH]


class _SlowToClose:
    """A database on a full disk: nothing can be written, and it lets go only when told to."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.let_go = threading.Event()

    def write(self, _batch: object) -> None:
        raise OSError("IO error: No space left on device")

    def close(self) -> None:
        self.let_go.wait()
        self._database.close()


def test_nobody_waits_for_a_database_that_is_slow_to_let_go_of_a_full_disk(
    start: Callable[[], Stores],
) -> None:
    """RocksDB takes a second for it, and the caller is the thread that reads TikTok's answers."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(1))
    store: Any = stores._stores[TP]
    slow = store._database = _SlowToClose(store._database)
    with pytest.raises(StoreError, match="make space"):
        fill(stores, range(1, 2))
    for ask in (missing, lambda stores, _: stores.open(TP, HERE)):
        with pytest.raises(StoreError, match="is being closed") as caught:
            ask(stores, 1)
        assert not isinstance(caught.value, StoreLostError)
    slow.let_go.set()
    store._closing.join()
    assert stores.open(TP, HERE) == reached(0)
    assert missing(stores, 1) == []


def test_a_write_that_failed_and_is_there_all_the_same_loses_nothing(
    start: Callable[[], Stores],
) -> None:
    """After an error the position may be the one before, or the one that was being written."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(2))
    store: Any = stores._stores[TP]
    store._reached = reached(0)  # as if the second write had ended with an error
    store._release()
    assert missing(stores, 2) == []
    store._reached = store._tried = reached(0)  # as if somebody else had made it
    store._release()
    with pytest.raises(StoreLostError, match="does not hold what it did"):
        missing(stores, 2)


def test_a_path_that_cannot_be_a_directory_is_an_error_with_advice(tmp_path: Path) -> None:
    """The wrong `dedup.directory` is named; nothing is wiped, and the process goes on."""
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(StoreError, match=r"is a file: name another dedup\.directory"):
        Stores(tmp_path / "file", "group", WINDOW).open(TP, HERE)
    partition(tmp_path).parent.mkdir(parents=True)
    partition(tmp_path).write_bytes(b"precious")
    with pytest.raises(StoreError, match=r"is a file: name another dedup\.directory"):
        Stores(tmp_path, "group", WINDOW).open(TP, HERE)
    assert partition(tmp_path).read_bytes() == b"precious"


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 64):
        if at < len(content):
            content[at] ^= 0x55
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": lambda path: path.write_bytes(b"garbage\n"),
    "cut in half": _cut,
    "changed": _change,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_file_is_damaged_a_position_is_believed_only_with_all_its_marks(
    tmp_path: Path, start: Callable[[], Stores], damage: Callable[[Path], object]
) -> None:
    """Damage that is noticed only later makes the store lost; opened again, it is new."""
    for number in range(3):
        stores = start()
        stores.open(TP, HERE)
        fill(stores, range(number * 10, number * 10 + 10))
        stores.close_all()
    sound = tmp_path / "sound"
    damaged = place(tmp_path)
    damaged.rename(sound)
    wiped = 0
    for name in sorted(path.name for path in sound.iterdir()):
        shutil.copytree(sound, damaged)
        damage(damaged / name)
        stores = start()
        found = stores.open(TP, HERE)
        if found is not None:
            assert found == reached(29)
            try:
                assert missing(stores, 30) == []
            except StoreLostError:
                found = stores.open(TP, HERE)
                assert found is None
        wiped += found is None
        fill(stores, range(1))
        stores.close_all()
        shutil.rmtree(partition(tmp_path))
    assert wiped


def test_damage_found_while_reading_makes_a_store_lost_and_then_new(
    tmp_path: Path, start: Callable[[], Stores], caplog: pytest.LogCaptureFixture
) -> None:
    """RocksDB reads a block when it is asked for; what it cannot answer is not "never accepted"."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(100))
    stores.close_all()
    stores.open(TP, HERE)
    damaged = place(tmp_path)
    for table in damaged.glob("*.sst"):
        content = bytearray(table.read_bytes())
        content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
        table.write_bytes(content)
    with pytest.raises(StoreLostError, match="is damaged"):
        missing(stores, 100)
    assert stores.open(TP, HERE) is None
    assert missing(stores, 100) == list(range(100 * EACH))
    assert [record.getMessage() for record in caplog.records] == [
        f"deduplication store of conversions/0: {damaged} is damaged: wiped"
    ]


def test_a_mark_of_another_shape_is_damage(start: Callable[[], Stores]) -> None:
    """A directory that something else has written to is not taken for ours."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(1))
    store: Any = stores._stores[TP]
    store._database[key(1)] = b"short"
    with pytest.raises(StoreLostError):
        missing(stores, 1)
    assert stores.open(TP, HERE) is None


def test_a_position_that_is_damaged_is_not_believed(start: Callable[[], Stores]) -> None:
    """The value has a checksum of its own."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(1))
    store: Any = stores._stores[TP]
    value = bytearray(store._database[b"reached"])
    value[40] ^= 1
    store._database[b"reached"] = bytes(value)
    assert stores.open(TP, HERE) is None
    assert missing(stores, 1) == list(range(EACH))


def test_a_machine_that_crashed_is_not_believed_about_the_last_writes(tmp_path: Path) -> None:
    """Nobody knows which of the files reached the disk. The marks that did are facts and stay."""
    before, after = (Stores(tmp_path, "group", WINDOW, boot=boot) for boot in ("one", "two"))
    before.open(TP, HERE)
    fill(before, range(5))
    crash(before)
    assert before.open(TP, HERE) == reached(4), "the process alone had crashed"
    crash(before)
    assert after.open(TP, HERE) is None
    assert missing(after, 5) == []
    fill(after, range(5, 6))
    after.close_all()
    assert before.open(TP, HERE) == reached(5), "an orderly end leaves everything on the disk"
    before.close_all()


def test_a_copy_is_believed_only_of_a_store_that_was_closed(
    tmp_path: Path, start: Callable[[], Stores]
) -> None:
    """A copy of a directory in use holds files of different times."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(5))
    for name, at in (("used", None), ("closed", reached(4))):
        shutil.copytree(tmp_path / "group", tmp_path / name / "group")
        copy = Stores(tmp_path / name, "group", WINDOW)
        assert copy.open(TP, HERE) == at
        copy.close_all()
        stores.close_all()


@pytest.mark.parametrize("how", ["moved", "emptied"])
def test_a_directory_that_is_taken_away_is_noticed_at_the_next_mark(
    tmp_path: Path, start: Callable[[], Stores], how: str
) -> None:
    """RocksDB itself would notice when it begins the next file."""
    stores = start()
    stores.open(TP, HERE)
    fill(stores, range(5))
    if how == "moved":
        place(tmp_path).rename(tmp_path / "elsewhere")
    else:
        for path in place(tmp_path).iterdir():
            path.unlink()
    assert missing(stores, 5) == []
    with pytest.raises(StoreLostError, match="while in use"):
        fill(stores, range(5, 6))
    if stores.open(TP, HERE) is not None:  # RocksDB had it all in memory, and wrote it once more
        assert missing(stores, 5) == []
    fill(stores, range(6))
    assert missing(stores, 6) == []


def test_compacting_after_restarts_takes_no_mark_that_still_counts(
    start: Callable[[], Stores],
) -> None:
    """A directory opened again keeps its time-to-live: rocksdict's defaults lose all of it."""
    stores = start()
    for number in range(6):
        stores.open(TP, HERE)
        fill(stores, range(number, number + 1))
        store: Any = stores._stores[TP]
        store._database.flush()
        store._database.compact_range(None, None)
        stores.close_all()
    assert stores.open(TP, HERE) == reached(5)
    assert missing(stores, 6) == []


def test_space_of_expired_marks_is_given_back_when_rocksdb_compacts(
    start: Callable[[], Stores],
) -> None:
    """Time-to-live drops old marks from the disk, those of earlier runs too; not on reading."""
    stores = start()
    stores.open(TP, HERE)
    stores.mark(TP, marks(range(20_000)), reached(1))
    stores.close_all()
    stores._ttl_seconds = 1
    stores.open(TP, HERE)
    store: Any = stores._stores[TP]
    time.sleep(2.1)
    assert missing(stores, 1) == []
    assert store._database.property_int_value("rocksdb.total-sst-files-size") > 500_000
    store._database.compact_range(None, None)
    assert store._database.property_int_value("rocksdb.total-sst-files-size") < 10_000
    assert missing(stores, 1) == list(range(EACH))
