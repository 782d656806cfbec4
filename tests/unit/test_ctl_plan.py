"""The plan that a push shows: what is sent, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fos1d.cli.judged import MOST_BYTES, Judgement, ask_daemon
from fos1d.cli.remote_plan import needed, plan_text
from fos1d.model.snapshot import Blob, Snapshot
from tests.ctl_router import Router, running_router
from tests.fake_desk import COMMIT, EDGE

LISTED = """\
apiVersion: networking.fos1.io/v1alpha1
kind: EBPFProgram
metadata: {name: listed}
spec:
  type: xdp
  interface: eth0
  settings:
    blacklist: {enabled: true, files: [lists/bad.netset, ./near.netset]}
"""


@pytest.fixture
def live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Router]:
    with running_router(tmp_path, capsys, monkeypatch) as found:
        yield found


def snapshot(**files: str) -> Snapshot:
    """Return a snapshot of these files."""
    blobs = {path: Blob(path, path, len(text), text.encode) for path, text in sorted(files.items())}
    return Snapshot(COMMIT, blobs)


FILES = {
    "edge.yaml": EDGE,
    "sub/listed.yaml": LISTED,
    "lists/bad.netset": "192.0.2.1\n",
    "sub/near.netset": "192.0.2.2\n",
    "lists/unused.netset": "192.0.2.3\n",
    "README.md": "about",
}


def test_only_what_is_needed_is_sent(live: Router) -> None:
    text = plan_text(snapshot(**FILES))
    assert text is not None
    assert text.startswith("plan for 1a2b3c4d5e6f: 2 to create (+), 1 to replace (~)")
    sent = dict(live.desk.asked)["plan"]
    assert isinstance(sent, dict)
    assert sorted(sent) == ["edge.yaml", "lists/bad.netset", "sub/listed.yaml", "sub/near.netset"]
    assert sent["sub/near.netset"] == b"192.0.2.2\n"


def test_files_that_are_missing_are_left_out() -> None:
    found = needed(snapshot(**{"a.yaml": LISTED}))
    assert [blob.path for blob in found] == ["a.yaml"]


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOS1_SOCKET", str(tmp_path / "none.sock"))
    assert plan_text(snapshot(**FILES)) is None


def test_the_pusher_may_not_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_router(tmp_path, capsys, monkeypatch, lambda peer: False):
        text = plan_text(snapshot(**FILES))
    assert text is not None
    assert text.startswith("fos1d: plan not shown: this is for root and members of group fos1")


# Judged by the daemon


def test_the_daemon_judges_what_it_is_handed_whole(live: Router) -> None:
    judged = ask_daemon(snapshot(**FILES))
    assert isinstance(judged, Judgement)
    assert judged.plan.startswith("plan for 1a2b3c4d5e6f: 2 to create (+), 1 to replace (~)")
    sent = dict(live.desk.asked)["plan"]
    assert isinstance(sent, dict)
    assert sorted(sent) == sorted(FILES)


def test_too_much_is_not_handed_over(live: Router) -> None:
    large = Blob("a.netset", "a", MOST_BYTES, bytes)
    assert ask_daemon(Snapshot(COMMIT, {**snapshot(**FILES).blobs, "a.netset": large})) is None
    assert live.desk.asked == []


def test_nobody_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOS1_SOCKET", str(tmp_path / "none.sock"))
    assert ask_daemon(snapshot(**FILES)) is None
