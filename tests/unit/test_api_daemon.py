"""What the API says of the daemon and of itself: discovery, health, state, events, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fos1d.report.daemon_views import About
from fos1d.report.http import Response, parse_head
from fos1d.report.refusal import ApiRefusal
from fos1d.report.routes import Service, read
from tests import fake_desk
from tests.fake_desk import COMMIT, FILTER, NOW, FakeDesk

BASE = "/apis/networking.fos1.io/v1alpha1"
PROGRAMS = f"{BASE}/namespaces/default/ebpfprograms"

Get = Callable[..., Any]


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def service(desk: FakeDesk) -> Service:
    return Service(desk, About("text", 4711), lambda: NOW)


@pytest.fixture
def get(service: Service) -> Get:
    return lambda path, accept="*/*": json.loads(answer(service, path, accept).body)


def answer(service: Service, path: str, accept: str = "*/*") -> Response:
    """Return the answer to a GET."""
    return read(parse_head(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode()), service)


def refusal(service: Service, path: str) -> dict[str, object]:
    """Return the Status of a GET that is refused."""
    with pytest.raises(ApiRefusal) as caught:
        answer(service, path)
    return caught.value.to_json()


# The rest


def test_discovery(get: Get) -> None:
    resources = get(BASE)
    assert resources["kind"] == "APIResourceList"
    assert resources["resources"][0] == {
        "name": "ebpfprograms",
        "singularName": "ebpfprogram",
        "namespaced": True,
        "kind": "EBPFProgram",
        "verbs": ["get", "list", "watch"],
        "shortNames": ["ebpf"],
    }
    assert get("/apis")["groups"][0]["preferredVersion"]["version"] == "v1alpha1"
    assert get("/apis/networking.fos1.io")["kind"] == "APIGroup"
    assert get("/api") == {"kind": "APIVersions", "versions": []}
    assert get("/version")["gitVersion"] == "v0.1.0"


def test_health(service: Service, desk: FakeDesk) -> None:
    assert answer(service, "/healthz").body == b"ok\n"
    assert answer(service, "/readyz").code == 200
    desk.publish(replace(desk.now, passes=0))
    late = answer(service, "/readyz")
    assert (late.code, late.body) == (503, b"the first pass is not done yet\n")


@pytest.mark.parametrize(
    ("path", "code", "reason", "message"),
    [
        (
            f"{PROGRAMS}/nope",
            404,
            "NotFound",
            'ebpfprograms.networking.fos1.io "nope" not found',
        ),
        (
            f"{PROGRAMS}/own-code",
            404,
            "NotFound",
            'ebpfprograms.networking.fos1.io "own-code" not found in default; it is in lab',
        ),
        (
            f"{BASE}/pods",
            404,
            "NotFound",
            'there is no resource "pods"; known: ebpfcontainerpolicies, ebpfmaps,'
            " ebpfnatpolicies, ebpfnetworkpolicies, ebpfprograms, ebpftrafficcontrols",
        ),
        ("/nope", 404, "NotFound", "/nope is not a path of this API"),
        ("/fos1/v1/nope", 404, "NotFound", "/fos1/v1/nope is not a path of this API"),
        (
            "/fos1/v1/events?about=x",
            400,
            "BadRequest",
            'about: "x" must be Kind/namespace/name',
        ),
    ],
)
def test_refusals(service: Service, path: str, code: int, reason: str, message: str) -> None:
    status = refusal(service, path)
    assert (status["kind"], status["status"]) == ("Status", "Failure")
    assert (status["code"], status["reason"], status["message"]) == (code, reason, message)


def test_a_refusal_names_what_is_not_there(service: Service) -> None:
    assert refusal(service, f"{PROGRAMS}/nope") == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'ebpfprograms.networking.fos1.io "nope" not found',
        "reason": "NotFound",
        "details": {"name": "nope", "group": "networking.fos1.io", "kind": "ebpfprograms"},
        "code": 404,
    }


def test_the_state_of_the_daemon(get: Get) -> None:
    state = get("/fos1/v1/status")
    assert state["source"] == {
        "place": "git /srv/policy.git main",
        "revision": COMMIT,
        "readAt": "2025-12-31T23:59:48Z",
        "error": "",
    }
    assert state["passes"] == {
        "count": 1502,
        "lastAt": "2025-12-31T23:59:52Z",
        "lastTookSeconds": 0.0452,
        "error": "",
    }
    assert state["resources"]["EBPFProgram"] == {"total": 4, "ready": 1}
    assert state["suspended"] == {"suspended": False}
    assert (state["log"], state["pid"], state["healthy"]) == ("text", 4711, False)
    assert [item["name"] for item in state["notReady"]][:2] == ["database", "outbound"]
    assert state["findings"][0]["file"] == "policy/typo.yaml"


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        (float("inf"), {"suspended": True, "until": None}),
        (NOW, {"suspended": True, "until": "2026-01-01T00:00:00Z"}),
    ],
)
def test_a_suspension(get: Get, desk: FakeDesk, until: float, shown: object) -> None:
    desk.publish(replace(desk.now, suspended_until_s=until))
    assert get("/fos1/v1/status")["suspended"] == shown


def test_health_is_more_than_ready(get: Get, desk: FakeDesk) -> None:
    desk.publish(fake_desk.healthy())
    assert get("/fos1/v1/status")["healthy"]
    for worse in (
        replace(desk.now, error="boom"),
        replace(desk.now, held=(FILTER,)),
        replace(desk.now, passes=0),
        replace(desk.now, source=replace(desk.now.source, error="unreadable")),
        replace(desk.now, findings=(fake_desk.BROKEN,)),
    ):
        desk.publish(worse)
        assert not get("/fos1/v1/status")["healthy"]


def test_events(get: Get) -> None:
    events = get(f"/fos1/v1/events?about={FILTER}")
    assert events["kind"] == "EventList"
    first, second = events["items"]
    assert first == {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": first["metadata"]["name"], "namespace": "default"},
        "involvedObject": {
            "apiVersion": "networking.fos1.io/v1alpha1",
            "kind": "EBPFProgram",
            "namespace": "default",
            "name": "edge-filter",
        },
        "type": "Normal",
        "reason": "Programmed",
        "message": "attached to eth0 (native)",
        "count": 1,
        "firstTimestamp": "2025-12-31T22:58:20Z",
        "lastTimestamp": "2025-12-31T22:58:20Z",
        "source": {"component": "fos1d", "host": "edge-1"},
        "revision": COMMIT,
        "action": "create attachment eth0 xdp",
        "origin": {"path": "policy/edge.yaml", "line": 1},
    }
    assert (second["count"], second["firstTimestamp"]) == (3, "2025-12-31T23:50:00Z")
    everything = get("/fos1/v1/events")["items"]
    assert len(everything) == 4
    assert everything[0]["involvedObject"] == {"kind": "Node", "name": "edge-1"}


def test_details_and_history(get: Get) -> None:
    details = get("/fos1/v1/details/EBPFProgram/default/edge-filter")
    assert details["about"] == "EBPFProgram/default/edge-filter"
    assert details["metrics"]["drops"] == 153
    newest = get("/fos1/v1/history")["items"][0]
    assert (newest["revision"], newest["ready"], newest["total"]) == (COMMIT, 3, 10)
