"""When a changing tree may be looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fos1d.source.settle import Change, Quiet, Ready, Settle, Timing, Verdict, Waiting, What

TIMING = Timing()
MANIFEST = "a.yaml"


def settled(*known: str) -> Settle:
    """Return a machine that has just had a snapshot with the `known` files, at time 100."""
    settle = Settle(0.0)
    settle.taken(frozenset(known), 100.0)
    return settle


def fed(settle: Settle, *changes: tuple[float, Change]) -> Settle:
    for at, change in changes:
        settle.feed(change, at)
    return settle


def placed(path: str, cookie: int = 0) -> Change:
    return Change(What.PLACED, path, cookie=cookie)


def gone(path: str, cookie: int = 0, folder: bool = False) -> Change:
    return Change(What.GONE, path, folder, cookie)


def written(path: str) -> Change:
    return Change(What.WRITTEN, path)


def closed(path: str) -> Change:
    return Change(What.CLOSED, path)


def test_begins_with_a_moment_of_quiet() -> None:
    settle = Settle(10.0)
    assert settle.verdict(10.0) == Waiting(10.0 + TIMING.quiet_s)
    assert settle.verdict(10.1) == Ready()


def test_nothing_happened() -> None:
    assert settled(MANIFEST).verdict(200.0) == Quiet()


def test_what_is_moved_into_place_is_taken_at_once() -> None:
    assert fed(settled(MANIFEST), (100.0, placed(MANIFEST))).verdict(100.0) == Ready()


def test_a_temporary_file_moved_into_place_is_taken_at_once() -> None:
    settle = fed(
        settled(MANIFEST),
        (100.0, written("a.yaml.new")),
        (100.001, closed("a.yaml.new")),
        (100.002, gone("a.yaml.new", cookie=7)),
        (100.002, placed(MANIFEST, cookie=7)),
    )
    assert settle.verdict(100.002) == Ready()


def test_a_whole_folder_moved_into_place_is_taken_at_once() -> None:
    settle = fed(
        settled("site", "site/a.yaml"),
        (100.0, Change(What.TOUCHED, "site.new", folder=True)),
        (100.1, written("site.new/a.yaml")),
        (100.2, gone("site", cookie=1, folder=True)),
        (100.2, Change(What.PLACED, "site.old", folder=True, cookie=1)),
        (100.3, gone("site.new", cookie=2, folder=True)),
        (100.3, Change(What.PLACED, "site", folder=True, cookie=2)),
    )
    assert settle.verdict(100.3) == Ready()


def test_what_is_closed_is_taken_after_a_moment_of_quiet() -> None:
    settle = fed(settled(MANIFEST), (100.0, written(MANIFEST)), (101.0, closed(MANIFEST)))
    assert settle.verdict(101.0) == Waiting(101.0 + TIMING.quiet_s)
    assert settle.verdict(101.06) == Ready()


def test_many_files_are_taken_together_but_not_put_off_for_ever() -> None:
    settle = settled()
    for step in range(1000):
        fed(settle, (100 + step / 100, closed(f"{step}.yaml")))
        if step == 100:
            assert settle.verdict(101.0) == Waiting(101.0 + TIMING.quiet_s)
    assert isinstance(settle.verdict(110.0), Ready)


def test_an_open_file_is_waited_for_and_then_passed_over() -> None:
    settle = fed(settled(MANIFEST), (100.0, written(MANIFEST)))
    assert settle.verdict(104.9) == Waiting(100.0 + TIMING.limit_s)
    assert settle.verdict(105.0) == Ready(frozenset({MANIFEST}), patient=False)


def test_a_file_that_stays_open_delays_no_other() -> None:
    settle = fed(settled(MANIFEST, "b.yaml"), (100.0, written("log")))
    settle.taken(frozenset({MANIFEST, "log"}), 106.0)
    assert fed(settle, (107.0, written("log"))).verdict(107.0) == Quiet()
    fed(settle, (108.0, placed(MANIFEST)))
    assert settle.verdict(108.0) == Ready(frozenset({"log"}))


def test_a_file_that_vanished_may_come_back() -> None:
    settle = fed(settled(MANIFEST), (100.0, gone(MANIFEST, cookie=1)))
    assert settle.verdict(100.2) == Waiting(100.0 + TIMING.absence_s)
    fed(settle, (100.21, written(MANIFEST)), (100.22, closed(MANIFEST)))
    assert settle.verdict(100.3) == Ready()


def test_a_file_that_vanished_for_good_is_missed_after_a_moment() -> None:
    settle = fed(settled(MANIFEST), (100.0, gone(MANIFEST)))
    assert settle.verdict(100.25) == Ready()


def test_a_backup_under_a_visible_name_does_not_end_the_wait() -> None:
    settle = fed(
        settled(MANIFEST, "a.yaml.bak"),
        (100.0, gone(MANIFEST, cookie=1)),
        (100.0, placed("a.yaml.bak", cookie=1)),
    )
    assert isinstance(settle.verdict(100.0), Waiting)


def test_a_file_moved_over_a_known_manifest_is_not_missed() -> None:
    settle = fed(
        settled(MANIFEST, "b.yaml"),
        (100.0, gone("b.yaml", cookie=1)),
        (100.0, placed(MANIFEST, cookie=1)),
    )
    assert settle.verdict(100.0) == Ready()


def test_trying_again_waits_a_moment_but_not_for_ever() -> None:
    settle = fed(settled(MANIFEST), (100.0, placed(MANIFEST)))
    settle.again(100.0)
    assert settle.verdict(100.0) == Waiting(100.0 + TIMING.quiet_s)
    for step in range(60):
        settle.again(100.0 + step / 10)
    assert settle.verdict(106.0) == Ready(frozenset(), patient=False)


def test_lost_events_leave_nothing_waiting_for_a_close() -> None:
    settle = fed(settled(MANIFEST), (100.0, written(MANIFEST)), (100.0, Change(What.LOST, "")))
    assert settle.verdict(100.1) == Ready()


PATHS = st.sampled_from(["a.yaml", "b.yaml", "new.yaml", "list", "d", "d/c.yaml"])
CHANGES = st.builds(
    Change,
    st.sampled_from(list(What)),
    PATHS,
    st.booleans(),
    st.sampled_from([0, 1, 2]),
)
STEPS = st.lists(st.tuples(st.floats(0, 3, allow_nan=False), CHANGES), max_size=40)
KNOWN = st.frozensets(PATHS)


@given(known=KNOWN, steps=STEPS)
def test_the_wait_has_an_end(known: frozenset[str], steps: list[tuple[float, Change]]) -> None:
    settle, now = settled(*known), 100.0
    for delay, change in steps:
        now += delay
        settle.feed(change, now)
    verdict = settle.verdict(now)
    if isinstance(verdict, Waiting):
        assert now < verdict.until <= now + TIMING.limit_s
        assert isinstance(settle.verdict(verdict.until), Ready)
    else:
        assert isinstance(verdict, Quiet | Ready)


@given(known=KNOWN, steps=STEPS)
def test_what_is_being_written_or_just_vanished_is_never_taken(
    known: frozenset[str], steps: list[tuple[float, Change]]
) -> None:
    settle, now = settled(*known), 100.0
    being_written: set[str] = set()
    for delay, change in steps:
        now += delay
        settle.feed(change, now)
        follow_by_hand(change, being_written)
        verdict = settle.verdict(now)
        if isinstance(verdict, Ready):
            assert being_written <= verdict.held
            if change.what is What.GONE and change.path in known:
                assert change.path in verdict.held


def follow_by_hand(change: Change, being_written: set[str]) -> None:
    match change.what:
        case What.WRITTEN:
            being_written.add(change.path)
        case What.CLOSED | What.PLACED:
            being_written.discard(change.path)
        case What.LOST:
            being_written.clear()
        case What.TOUCHED:
            pass
        case What.GONE:
            below = f"{change.path}/" if change.folder else change.path
            gone = {path for path in being_written if path.startswith(below)}
            being_written -= gone | {change.path}


@given(known=KNOWN, steps=STEPS)
def test_the_same_history_gives_the_same_verdict(
    known: frozenset[str], steps: list[tuple[float, Change]]
) -> None:
    def run() -> list[Verdict]:
        settle, now, verdicts = settled(*known), 100.0, []
        for delay, change in steps:
            now += delay
            settle.feed(change, now)
            verdicts.append(settle.verdict(now))
        return verdicts

    assert run() == run()


@pytest.mark.parametrize("what", [What.CLOSED, What.TOUCHED, What.PLACED, What.GONE, What.LOST])
def test_every_change_counts(what: What) -> None:
    settle = settled(MANIFEST)
    before = settle.count
    settle.feed(Change(what, MANIFEST), 100.0)
    assert settle.count > before
