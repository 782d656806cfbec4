"""Files that are saved and swapped while snapshots are taken: each of these is a written state."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fos1d.errors import SnapshotChanged, SourceError
from fos1d.model.snapshot import Snapshot
from fos1d.source.directory import DirectorySource
from fos1d.source.follow import DirectoryFollower, follow
from fos1d.source.settle import Timing

NAME = "a.yaml"


def text(number: int) -> str:
    return f"number: {number}\n" + "# padding\n" * (number % 7) + f"end: {number}\n"


def number_in(content: bytes) -> int:
    """Return the number of a whole text; fail for half a one."""
    number = int(content.split()[1])
    assert content.decode() == text(number)
    return number


# How editors and tools save


def pause() -> None:
    """Do what an editor does between two steps, such as waiting for the disk."""
    time.sleep(random.random() / 200)


def write_in_two(path: Path, number: int) -> None:
    half = len(text(number)) // 2
    with path.open("w") as file:
        file.write(text(number)[:half])
        file.flush()
        pause()
        file.write(text(number)[half:])


def vim(path: Path, number: int) -> None:
    probe, backup = path.with_name("4913"), path.with_name(f"{path.name}~")
    probe.touch()
    probe.unlink()
    path.rename(backup)
    pause()
    write_in_two(path, number)
    path.chmod(0o644)
    backup.unlink()


def vim_with_backupcopy(path: Path, number: int) -> None:
    backup = path.with_name(f"{path.name}~")
    shutil.copy2(path, backup)
    write_in_two(path, number)
    backup.unlink()


def emacs(path: Path, number: int) -> None:
    lock = path.with_name(f".#{path.name}")
    lock.symlink_to("somebody@somewhere.1")
    write_in_two(path.with_name(f"#{path.name}#"), number)
    path.rename(path.with_name(f"{path.name}~"))
    pause()
    write_in_two(path, number)
    path.with_name(f"#{path.name}#").unlink()
    lock.unlink()


def nano(path: Path, number: int) -> None:
    write_in_two(path, number)


def sed(path: Path, number: int) -> None:
    temporary = path.with_name("sedAbC123")
    write_in_two(temporary, number)
    temporary.rename(path)


def sed_with_backup(path: Path, number: int) -> None:
    temporary = path.with_name("sedAbC123")
    write_in_two(temporary, number)
    path.rename(path.with_name(f"{path.name}.bak"))
    pause()
    temporary.rename(path)


def perl(path: Path, number: int) -> None:
    path.rename(path.with_name(f"{path.name}.bak"))
    pause()
    write_in_two(path, number)


def git_checkout(path: Path, number: int) -> None:
    path.unlink()
    pause()
    write_in_two(path, number)


def hidden_temporary(path: Path, number: int) -> None:
    temporary = path.with_name(f".{path.name}.x7Gh")
    write_in_two(temporary, number)
    temporary.rename(path)


EDITORS: list[Callable[[Path, int], None]] = [
    vim,
    vim_with_backupcopy,
    emacs,
    nano,
    sed,
    sed_with_backup,
    perl,
    git_checkout,
    hidden_temporary,
]


def save_many(path: Path, times: int) -> None:
    """Save `times` times with every editor, now fast, now slowly."""
    number = 0
    for editor in EDITORS:
        for step in range(times):
            number += 1
            editor(path, number)
            time.sleep(0.3 if step == times - 1 else random.random() / 60)


@contextmanager
def following(path: Path, timing: Timing | None = None) -> Iterator[DirectoryFollower]:
    wake = threading.Event()
    follower = DirectoryFollower(DirectorySource(path), wake.set, timing or Timing())
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()


@pytest.mark.slow
def test_no_save_of_any_editor_is_taken_half(tmp_path: Path) -> None:
    path, times = tmp_path / NAME, 8
    path.write_text(text(0))
    writer = multiprocessing.get_context("spawn").Process(target=save_many, args=(path, times))
    writer.start()
    seen = [0]
    with following(tmp_path, Timing(quiet_s=0.01)) as follower:
        while writer.is_alive():
            seen.append(number_in(follower.snapshot().blobs[NAME].read()))
        writer.join()
        wait_for(lambda: number_in(follower.snapshot().blobs[NAME].read()) == times * len(EDITORS))
    assert writer.exitcode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > len(EDITORS)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Swaps


def fill(folder: Path, number: int) -> None:
    """Write three files and a list that belong together."""
    (folder / "site").mkdir(parents=True)
    for name in (NAME, "b.yaml", "site/c.yaml", "l.netset"):
        (folder / name).write_text(text(number))


def swap_link(link: Path, target: str) -> None:
    fresh = link.with_name(f"{link.name}_tmp")
    fresh.symlink_to(target)
    fresh.rename(link)


def swap_root(base: Path, number: int) -> None:
    fill(base / "releases" / str(number), number)
    swap_link(base / "policy", f"releases/{number}")
    shutil.rmtree(base / "releases" / str(number - 2), ignore_errors=True)


def swap_data(base: Path, number: int) -> None:
    """Do as Kubernetes does with a ConfigMap."""
    policy = base / "policy"
    fill(policy / f"..{number}", number)
    swap_link(policy / "..data", f"..{number}")
    for name in (NAME, "b.yaml", "site", "l.netset"):
        if not (policy / name).is_symlink():
            (policy / name).symlink_to(f"..data/{name}")
    shutil.rmtree(policy / f"..{number - 2}", ignore_errors=True)


SWAPS = [swap_root, swap_data]


def one_number(snapshot: Snapshot) -> int:
    """Return the number that all files of a snapshot share."""
    assert set(snapshot.blobs) == {NAME, "b.yaml", "site/c.yaml", "l.netset"}
    numbers = {number_in(blob.read()) for blob in snapshot.blobs.values()}
    assert len(numbers) == 1
    return numbers.pop()


@pytest.mark.parametrize("swap", SWAPS)
def test_no_snapshot_mixes_two_targets(swap: Callable[[Path, int], None], tmp_path: Path) -> None:
    swaps = 200
    swap(tmp_path, 0)
    source = DirectorySource(tmp_path / "policy")
    seen = [one_number(source.snapshot())]
    done = threading.Event()

    def write() -> None:
        for number in range(1, swaps + 1):
            swap(tmp_path, number)
            time.sleep(random.random() / 200)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        try:
            seen.append(one_number(source.snapshot()))
        except SourceError as error:
            assert isinstance(error, SnapshotChanged), error
    writer.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > swaps / 10
    assert one_number(source.snapshot()) == swaps


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swap_wakes_and_is_taken_at_once(
    swap: Callable[[Path, int], None], tmp_path: Path
) -> None:
    swap(tmp_path, 0)
    woken = threading.Event()
    follower = follow(DirectorySource(tmp_path / "policy"), woken.set)
    follower.start()
    try:
        assert one_number(follower.snapshot()) == 0
        for number in range(1, 20):
            wait_for(lambda: follower.settled)
            woken.clear()
            swap(tmp_path, number)
            assert woken.wait(5)
            assert one_number(follower.snapshot()) == number
    finally:
        follower.stop()


def test_a_copy_of_a_tree_is_followed_to_its_end(tmp_path: Path) -> None:
    root = tmp_path / "policy"
    root.mkdir()
    for number in range(60):
        folder = tmp_path / "new" / f"d{number % 6}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.yaml").write_text(text(number))
    with following(root) as follower:
        assert follower.snapshot().blobs == {}
        copying = threading.Thread(target=shutil.copytree, args=(tmp_path / "new", root / "new"))
        copying.start()
        while copying.is_alive():
            for blob in follower.snapshot().blobs.values():
                number_in(blob.read())
        wait_for(lambda: len(follower.snapshot().blobs) == 60)


@pytest.mark.slow
def test_many_writers_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"d{number}" / NAME for number in range(8)]
    for path in paths:
        path.parent.mkdir()
        path.write_text(text(0))

    def write(path: Path) -> None:
        for number in range(1, 30):
            random.choice([vim, sed, hidden_temporary])(path, number)
            time.sleep(random.random() / 50)

    def numbers() -> list[int]:
        blobs = follower.snapshot().blobs
        return [number_in(blobs[f"{path.parent.name}/{NAME}"].read()) for path in paths]

    writers = [threading.Thread(target=write, args=(path,)) for path in paths]
    with following(tmp_path, Timing(quiet_s=0.01)) as follower:
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            numbers()
        wait_for(lambda: numbers() == [29] * len(paths))
