"""Being woken by a directory, and what may be taken from it when."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source.directory import DirectorySource
from fos1d.source.follow import DirectoryFollower
from fos1d.source.settle import Change, Timing, What
from fos1d.source.spots import spots_above
from fos1d.source.watch import Spot, Watch

FAST = Timing(quiet_s=0.01, absence_s=0.05, restless_s=0.2, limit_s=0.4)


class Followed:
    """A directory and its follower, with which a test speaks."""

    def __init__(self, root: Path, subpath: str = "") -> None:
        self.woken = threading.Event()
        self.follower = DirectoryFollower(DirectorySource(root, subpath), self.woken.set, FAST)

    def contents(self) -> dict[str, str]:
        return contents(self.follower.snapshot())

    def becomes(self, wanted: dict[str, str]) -> None:
        """Wait for a wake after which the files are the `wanted` ones."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert self.woken.wait(5)
            self.woken.clear()
            try:
                if self.contents() == wanted:
                    return
            except SourceError:
                continue
        assert self.contents() == wanted


def contents(snapshot: Snapshot) -> dict[str, str]:
    return {path: blob.read().decode() for path, blob in snapshot.blobs.items()}


@pytest.fixture
def followed() -> Iterator[Callable[..., Followed]]:
    """Return a function that begins to follow a directory; it ends with the test."""
    begun: list[Followed] = []

    def begin(root: Path, subpath: str = "") -> Followed:
        begun.append(Followed(root, subpath))
        begun[-1].follower.start()
        return begun[-1]

    yield begin
    for each in begun:
        each.follower.stop()


Begin = Callable[..., Followed]


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_change_wakes_and_nothing_else_does(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "a.yaml", "1")
    it = followed(tmp_path)
    assert it.contents() == {"a.yaml": "1"}
    time.sleep(0.1)
    it.woken.clear()
    write(tmp_path / ".a.yaml.swp")
    write(tmp_path / "a.yaml~")
    (tmp_path / "a.yaml").read_text()
    assert not it.woken.wait(0.1)
    assert it.follower.settled
    write(tmp_path / "a.yaml", "2")
    it.becomes({"a.yaml": "2"})
    (tmp_path / "a.yaml").unlink()
    it.becomes({})


def test_an_unchanged_tree_gives_the_same_snapshot(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "a.yaml")
    it = followed(tmp_path)
    first = it.follower.snapshot()
    assert it.follower.snapshot() is first


def test_new_folders_are_watched(tmp_path: Path, followed: Begin) -> None:
    it = followed(tmp_path)
    assert it.contents() == {}
    write(tmp_path / "site/fra/deep/a.yaml", "1")
    it.becomes({"site/fra/deep/a.yaml": "1"})
    write(tmp_path / "site/fra/deep/a.yaml", "2")
    it.becomes({"site/fra/deep/a.yaml": "2"})
    (tmp_path / "site").rename(tmp_path / "place")
    it.becomes({"place/fra/deep/a.yaml": "2"})
    write(tmp_path / "place/fra/deep/a.yaml", "3")
    it.becomes({"place/fra/deep/a.yaml": "3"})
    shutil.rmtree(tmp_path / "place")
    it.becomes({})


def test_only_the_subpath_wakes(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "edge/a.yaml", "1")
    it = followed(tmp_path, "edge")
    assert it.contents() == {"edge/a.yaml": "1"}
    time.sleep(0.1)
    it.woken.clear()
    write(tmp_path / "b.yaml")
    assert not it.woken.wait(0.1)
    write(tmp_path / "edge/a.yaml", "2")
    it.becomes({"edge/a.yaml": "2"})


@pytest.mark.parametrize("depth", ["policy", "etc/fos1d/policy"])
def test_a_root_that_comes_goes_and_comes_back(tmp_path: Path, followed: Begin, depth: str) -> None:
    root = tmp_path / depth
    it = followed(root)
    with pytest.raises(SourceError, match="No such file"):
        it.contents()
    for text in ("1", "2", "3"):
        write(root / "a.yaml", text)
        it.becomes({"a.yaml": text})
        shutil.rmtree(tmp_path / Path(depth).parts[0])
        assert it.woken.wait(5)
        wait_for_error(it, "No such file")
        it.woken.clear()


def wait_for_error(it: Followed, words: str) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            it.contents()
        except SourceError as error:
            assert words in str(error)
            return
        time.sleep(0.01)
    raise AssertionError(f"no error with {words!r}")


def test_a_root_that_is_moved_away_and_replaced(tmp_path: Path, followed: Begin) -> None:
    root = tmp_path / "policy"
    write(root / "a.yaml", "1")
    it = followed(root)
    assert it.contents() == {"a.yaml": "1"}
    write(tmp_path / "new/a.yaml", "2")
    root.rename(tmp_path / "old")
    (tmp_path / "new").rename(root)
    it.becomes({"a.yaml": "2"})
    write(tmp_path / "old/a.yaml", "stale")
    write(root / "b.yaml", "3")
    it.becomes({"a.yaml": "2", "b.yaml": "3"})


def test_every_hop_to_the_root_is_watched(tmp_path: Path, followed: Begin) -> None:
    for number in ("1", "2"):
        write(tmp_path / f"releases/{number}/policy/a.yaml", number)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/current").symlink_to("../releases/1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/policy").symlink_to(tmp_path / "srv/current/policy")
    it = followed(tmp_path / "etc/policy")
    assert it.contents() == {"a.yaml": "1"}
    (tmp_path / "srv/new").symlink_to("../releases/2")
    (tmp_path / "srv/new").rename(tmp_path / "srv/current")
    it.becomes({"a.yaml": "2"})
    write(tmp_path / "elsewhere/a.yaml", "3")
    (tmp_path / "etc/policy").unlink()
    (tmp_path / "etc/policy").symlink_to(tmp_path / "elsewhere")
    it.becomes({"a.yaml": "3"})


def test_files_behind_symlinks_are_watched(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / ".store/real.yaml", "1")
    (tmp_path / "a.yaml").symlink_to(".store/real.yaml")
    it = followed(tmp_path)
    assert it.contents() == {"a.yaml": "1"}
    write(tmp_path / ".store/real.yaml", "2")
    it.becomes({"a.yaml": "2"})


def test_while_a_file_is_written_the_last_snapshot_stays(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "a.yaml", "old")
    it = followed(tmp_path)
    assert it.contents() == {"a.yaml": "old"}
    with (tmp_path / "a.yaml").open("w") as file:
        file.write("half")
        file.flush()
        assert it.contents() == {"a.yaml": "old"}
        assert not it.follower.settled
    it.becomes({"a.yaml": "half"})


def test_a_file_that_stays_open_holds_up_no_other_for_long(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "a.yaml", "old")
    it = followed(tmp_path)
    assert it.contents() == {"a.yaml": "old"}
    with (tmp_path / "a.yaml").open("w") as file:
        file.write("half")
        file.flush()
        write(tmp_path / "b.yaml", "b")
        it.becomes({"a.yaml": "old", "b.yaml": "b"})
        file.write(" and half")
    it.becomes({"a.yaml": "half and half", "b.yaml": "b"})


def test_at_the_start_an_open_file_is_an_error_and_nothing_is_removed(
    tmp_path: Path, followed: Begin
) -> None:
    write(tmp_path / "b.yaml", "b")
    with (tmp_path / "a.yaml").open("w") as file:
        file.write("half")
        file.flush()
        it = followed(tmp_path)
        with pytest.raises(SourceError, match=r"a\.yaml is open for writing"):
            it.contents()
    it.becomes({"a.yaml": "half", "b.yaml": "b"})


def test_an_error_is_told_until_it_is_mended(tmp_path: Path, followed: Begin) -> None:
    write(tmp_path / "a.yaml", "1")
    it = followed(tmp_path)
    assert it.contents() == {"a.yaml": "1"}
    (tmp_path / "b.yaml").symlink_to("/etc/hostname")
    assert it.woken.wait(5)
    for _ in range(3):
        wait_for_error(it, "leads out of")
    (tmp_path / "b.yaml").unlink()
    it.becomes({"a.yaml": "1"})


def test_a_tree_that_never_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> Snapshot:
        raise SnapshotChanged("it changed")

    monkeypatch.setattr(DirectorySource, "snapshot", refuse)
    it = Followed(tmp_path)
    it.follower.start()
    try:
        with pytest.raises(SourceError, match="does not stand still"):
            it.contents()
    finally:
        it.follower.stop()


def test_starting_and_stopping_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        it = Followed(tmp_path)
        it.follower.start()
        it.contents()
        it.follower.stop()
    assert set(threading.enumerate()) == before


# The watch itself


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
        (errno.EMFILE, "fs.inotify.max_user_instances"),
    ],
)
def test_inotifys_limits_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(number, "limit")

    watch = Watch(lambda change: None)
    watch.start()
    try:
        monkeypatch.setattr(InotifyFD, "add_callback", refuse)
        with pytest.raises(SourceError, match=words):
            watch.cover([Spot(str(tmp_path), "", whole=True)])
    finally:
        watch.stop()
    monkeypatch.setattr(InotifyFD, "__init__", refuse)
    with pytest.raises(SourceError, match=words):
        Watch(lambda change: None)


def test_the_limit_met_while_a_new_folder_is_watched_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Event()
    watch = Watch(lambda change: seen.set())
    watch.start()
    spot = Spot(str(tmp_path), "", whole=True, writes=True)
    try:
        assert watch.cover([spot])
        assert not watch.cover([spot])

        def refuse(*args: object) -> int:
            raise OSError(errno.ENOSPC, "limit")

        monkeypatch.setattr(InotifyFD, "add_callback", refuse)
        (tmp_path / "new").mkdir()
        assert seen.wait(5)
        with pytest.raises(SourceError, match="max_user_watches"):
            watch.cover([spot])
    finally:
        watch.stop()


def test_lost_events_are_reported(tmp_path: Path) -> None:
    changes: list[Change] = []
    watch = Watch(changes.append)
    watch.start()
    try:
        watch.cover([Spot(str(tmp_path), "", whole=True)])
        (post,) = watch._posts.values()
        post.on_queue_overflow()
    finally:
        watch.stop()
    assert changes[0].what is What.LOST


def test_a_fence_lets_pass_when_all_before_it_was_reported(tmp_path: Path) -> None:
    changes: list[Change] = []
    watch = Watch(changes.append)
    watch.start()
    try:
        watch.cover([Spot(str(tmp_path), "", whole=True, writes=True)])
        for number in range(200):
            write(tmp_path / f"{number}.yaml")
            watch.fence()
            assert changes[-1] == Change(What.CLOSED, f"{number}.yaml")
    finally:
        watch.stop()


def test_a_watch_that_is_dead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fos1d.source.watch._FENCE_S", 0.01)
    watch = Watch(lambda change: None)
    watch.start()
    watch.stop()
    with pytest.raises(SourceError, match="does not answer"):
        watch.fence()


def test_where_a_path_can_be_swapped(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/link").symlink_to(tmp_path / "a" / "b")
    places = {spot.path: spot.names for spot in spots_above(tmp_path / "a/link/c/d")}
    assert places == {f"{tmp_path}/a": {"link"}, f"{tmp_path}/a/b": {"c"}}
