"""POST: what the daemon is told to do, and what is said where it does not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fos1d.cli.client import Client, Refused
from fos1d.errors import SourceError
from fos1d.report.api import ApiServer
from fos1d.report.desk import PlanView
from tests.fake_desk import BLACKLIST, BLACKLIST_PIN, BROKEN, COMMIT, NOW, FakeDesk


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def client(desk: FakeDesk, tmp_path: Path) -> Iterator[Client]:
    server = ApiServer(tmp_path / "api.sock", desk, clock=lambda: NOW)
    server.start()
    yield Client(tmp_path / "api.sock")
    server.stop()


def refused(client: Client, path: str, body: object = None, **query: str) -> tuple[int, str]:
    """Return code and message of a refusal."""
    with pytest.raises(Refused) as caught:
        client.post(path, query, body)
    return caught.value.status, str(caught.value)


def test_reconcile(client: Client, desk: FakeDesk) -> None:
    assert client.post("/fos1/v1/reconcile")["passes"]["count"] == 1503
    assert client.post("/fos1/v1/reconcile", {"wait": "true"})["passes"]["count"] == 1504
    assert desk.asked == [("reconcile", False), ("reconcile", True)]


def test_a_pass_that_does_not_come(client: Client) -> None:
    late = refused(client, "/fos1/v1/reconcile", wait="1", timeoutSeconds="0.5")
    assert late == (504, "no pass was done within 0.5 s: fos1ctl status says more")


def test_a_pass_that_fails_is_no_timeout(client: Client, desk: FakeDesk) -> None:
    failed = replace(desk.now, error="the kernel cannot be observed")
    desk.reconcile = lambda wait, timeout_s: failed  # type: ignore[method-assign]
    state = client.post("/fos1/v1/reconcile", {"wait": "1"})
    assert state["passes"]["error"] == "the kernel cannot be observed"


def test_reconcile_while_suspended(client: Client) -> None:
    client.post("/fos1/v1/suspend", {"seconds": "60"})
    suspended = refused(client, "/fos1/v1/reconcile")
    assert suspended == (409, "passes are suspended: fos1ctl resume")


def test_suspend_and_resume(client: Client, desk: FakeDesk) -> None:
    state = client.post("/fos1/v1/suspend", {"seconds": "7200"})
    assert state["suspended"] == {"suspended": True, "until": "2026-01-01T02:00:00Z"}
    state = client.post("/fos1/v1/suspend")
    assert state["suspended"] == {"suspended": True, "until": None}
    assert client.post("/fos1/v1/resume")["suspended"] == {"suspended": False}
    assert desk.asked == [("suspend", 7200.0), ("suspend", None), ("resume", None)]
    code, message = refused(client, "/fos1/v1/suspend", seconds="-1")
    assert (code, message.partition(":")[0]) == (400, "seconds")


def test_confirm(client: Client, desk: FakeDesk) -> None:
    assert refused(client, "/fos1/v1/confirm") == (409, "no revision waits for a confirmation")
    desk.publish(replace(desk.now, held=(BLACKLIST,)))
    assert client.post("/fos1/v1/confirm")["held"] == []


def test_rollback_is_to_come(client: Client) -> None:
    code, message = refused(client, "/fos1/v1/rollback")
    assert (code, message) == (
        501,
        "rollback is not in this version: push the earlier revision",
    )


def test_a_plan_of_the_source(client: Client, desk: FakeDesk) -> None:
    plan: dict[str, Any] = client.post("/fos1/v1/plan")
    assert (plan["kind"], plan["revision"], plan["valid"]) == ("Plan", COMMIT, True)
    assert plan["counts"] == {"create": 2, "replace": 1, "delete": 1}
    assert plan["actions"][0] == {
        "verb": "create",
        "kind": "map",
        "name": BLACKLIST_PIN,
        "text": f"create map {BLACKLIST_PIN}",
        "resources": ["EBPFMap/default/blacklist-map"],
    }
    assert plan["held"] == ["EBPFMap/lab/counters"]
    assert desk.asked == [("plan", None)]


def test_a_plan_of_files(client: Client, desk: FakeDesk) -> None:
    desk.planned = PlanView("proposed", findings=(BROKEN,))
    content = bytes(range(256)) * 8192
    body = {"files": {"a.netset": base64.b64encode(content).decode(), "b.yaml": ""}}
    plan = client.post("/fos1/v1/plan", body=body)
    assert (plan["valid"], plan["findings"][0]["path"]) == (False, "spec.interfase")
    assert desk.asked == [("plan", {"a.netset": content, "b.yaml": b""})]


@pytest.mark.parametrize(
    "body",
    [[], "x", {"file": {}}, {"files": []}, {"files": {"a": 1}}, {"files": {"a": "no base64!"}}],
)
def test_files_that_are_none(client: Client, desk: FakeDesk, body: object) -> None:
    code, _ = refused(client, "/fos1/v1/plan", body)
    assert (code, desk.asked) == (400, [])


def test_a_plan_that_cannot_be_made(client: Client, desk: FakeDesk) -> None:
    def unreadable(files: object, timeout_s: float) -> PlanView:
        raise SourceError("the source cannot be read")

    desk.plan = unreadable  # type: ignore[method-assign]
    assert refused(client, "/fos1/v1/plan") == (
        503,
        "no plan can be made now: the source cannot be read",
    )
