"""The API's answers, compared whole with what is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fos1d.kinds import KINDS
from fos1d.report.daemon_views import About
from fos1d.report.http import MOST_HEADERS, Response, body_length, parse_head
from fos1d.report.refusal import REASONS, ApiRefusal
from fos1d.report.routes import Service, read
from fos1d.report.selectors import parse_selector
from tests.fake_desk import COMMIT, FILTER, NOW, WAN, FakeDesk

BASE = "/apis/networking.fos1.io/v1alpha1"
PROGRAMS = f"{BASE}/namespaces/default/ebpfprograms"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
THEN = "2025-12-31T22:58:20Z"

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


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> dict[str, object]:
    """Return a condition as Kubernetes has it."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": THEN,
        "observedGeneration": 1,
    }


# Resources


def test_a_program(get: Get) -> None:
    read_back = "2 objects read back"
    assert get(f"{PROGRAMS}/edge-filter") == {
        "apiVersion": "networking.fos1.io/v1alpha1",
        "kind": "EBPFProgram",
        "metadata": {
            "name": "edge-filter",
            "namespace": "default",
            "uid": "9e80d2dc-5f11-57a7-bf98-4aa73093b3f9",
            "resourceVersion": "1767135600000000003",
            "generation": 1,
            "creationTimestamp": THEN,
            "labels": {"app": "edge", "tier": "outer"},
            "annotations": {"owner": "noc@example.net"},
        },
        "spec": {
            "description": "Drop what attacks us",
            "type": "xdp",
            "interface": "eth0",
            "settings": {
                "rateLimiting": {"enabled": True, "packetsPerSecond": 10000},
                "blacklist": {"enabled": True, "ips": ["192.168.1.100", "10.10.10.0/24"]},
            },
        },
        "status": {
            "state": "Active",
            "reason": "ReadBack",
            "message": read_back,
            "observedGeneration": 1,
            "lastUpdated": THEN,
            "revision": COMMIT,
            "origin": {"path": "policy/edge.yaml", "line": 1},
            "conditions": [
                condition("Ready", "ReadBack", read_back),
                condition("Accepted", "Valid"),
                condition("Programmed", "ReadBack", read_back),
            ],
            "objects": [
                "attachment eth0 xdp",
                "program program/default:edge-filter/3f2a91c07be4d518",
            ],
            "remarks": ["eth0: native"],
            "attachedTo": [
                {"interface": "eth0", "hook": "xdp", "mode": "native", "programId": "42"}
            ],
            "metrics": {
                "packets": 1153,
                "bytes": 73792,
                "drops": 153,
                "byReason": [
                    {"reason": "pass", "packets": 1000, "bytes": 64000},
                    {"reason": "pass-established", "packets": 0, "bytes": 0},
                    {"reason": "drop-blacklist", "packets": 120, "bytes": 7680},
                    {"reason": "drop-rate-limit", "packets": 33, "bytes": 2112},
                    {"reason": "note-flows-full", "packets": 5, "bytes": 320},
                ],
            },
        },
    }


def test_a_map(get: Get) -> None:
    read_back = "2 objects read back"
    assert get(f"{BASE}/namespaces/default/ebpfmaps/blacklist-map") == {
        "apiVersion": "networking.fos1.io/v1alpha1",
        "kind": "EBPFMap",
        "metadata": {
            "name": "blacklist-map",
            "namespace": "default",
            "uid": "6090d4bf-8563-5e9b-9009-959b25343e70",
            "resourceVersion": "1767135600000000003",
            "generation": 1,
            "creationTimestamp": THEN,
        },
        "spec": {
            "type": "lpm_trie",
            "maxEntries": 1024,
            "keySize": 8,
            "valueSize": 4,
            "pinPath": "/sys/fs/bpf/blacklist",
            "accessedBy": ["edge-filter"],
            "initData": [{"key": "0x0a0a0a00/24", "value": "0x00000001"}],
        },
        "status": {
            "state": "Created",
            "reason": "ReadBack",
            "message": read_back,
            "observedGeneration": 1,
            "lastUpdated": THEN,
            "revision": COMMIT,
            "origin": {"path": "policy/edge.yaml", "line": 22},
            "conditions": [
                condition("Ready", "ReadBack", read_back),
                condition("Accepted", "Valid"),
                condition("Programmed", "ReadBack", read_back),
            ],
            "objects": [
                "entries map/default:blacklist-map/lpm_trie-8-4-1024-1",
                "map map/default:blacklist-map/lpm_trie-8-4-1024-1",
            ],
            "pinPath": "/sys/fs/bpf/blacklist",
            "mapId": 7,
            "entryCount": 5,
            "maxEntries": 1024,
            "memoryUsage": 20480,
            "entries": [
                {"key": "10.10.10.0/24", "value": "0x00000001"},
                {"key": "192.168.1.100/32", "value": "0x00000001"},
                {"key": "203.0.113.1/32", "value": "0x00000001"},
            ],
        },
    }


def test_one_that_was_never_valid(get: Get) -> None:
    wrong = "policy/typo.yaml:7:3 spec.interfase is not known"
    found = get(f"{PROGRAMS}/typo")
    assert found["spec"] == {}
    assert found["metadata"]["generation"] == 0
    assert "labels" not in found["metadata"]
    status = found["status"]
    assert (status["state"], status["reason"]) == ("Failed", "InvalidManifest")
    assert (status["message"], status["revision"]) == (wrong, "")
    assert status["origin"] == {"path": "policy/typo.yaml", "line": 7}


def test_one_that_the_kernel_cannot_be_asked_about(get: Get) -> None:
    found = get(f"{BASE}/namespaces/lab/ebpfprograms/own-code")
    assert found["status"]["kernelError"] == "program/lab:own-code: no such pin"
    assert found["status"]["state"] == "Failed"


def test_lists(get: Get) -> None:
    everywhere = get(f"{BASE}/ebpfprograms")
    assert everywhere["kind"] == "EBPFProgramList"
    assert everywhere["apiVersion"] == "networking.fos1.io/v1alpha1"
    assert everywhere["metadata"] == {"resourceVersion": "1767135600000000003"}
    names = [item["metadata"]["name"] for item in everywhere["items"]]
    assert names == ["edge-filter", "typo", "wan-filter", "own-code"]
    assert len(get(f"{BASE}/namespaces/lab/ebpfprograms")["items"]) == 1
    assert get(f"{BASE}/namespaces/nowhere/ebpfmaps")["items"] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_can_be_listed(kind: Any, get: Get) -> None:
    assert get(f"{BASE}/{kind.plural}")["kind"] == f"{kind.name}List"
    table = get(f"{BASE}/{kind.plural}", TABLE)
    widths = {len(row["cells"]) for row in table["rows"]}
    assert widths == {len(table["columnDefinitions"])}


def test_lists_do_not_ask_the_kernel(get: Get, desk: FakeDesk) -> None:
    for path in (f"{BASE}/ebpfprograms", f"{BASE}/ebpfmaps"):
        get(path)
    get(f"{BASE}/ebpfprograms", TABLE)
    assert desk.asked == []
    get(f"{BASE}/ebpfmaps", TABLE)
    assert len(desk.asked) == 2
    get(f"{BASE}/ebpfprograms?details=true")
    assert len(desk.asked) == 2 + 3  # the one that was never valid is not asked about


def test_a_list_shows_where_programs_run_without_asking(get: Get) -> None:
    found = get(f"{PROGRAMS}?fieldSelector=metadata.name=edge-filter")["items"][0]
    assert found["status"]["attachedTo"] == [{"interface": "eth0", "hook": "xdp", "mode": "native"}]
    assert "metrics" not in found["status"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=edge", ["edge-filter", "wan-filter"]),
        ("app==edge,tier=outer", ["edge-filter"]),
        ("tier!=outer", ["typo", "wan-filter"]),
        ("app%20in%20(edge,%20core)", ["edge-filter", "wan-filter"]),
        ("app%20notin%20(edge)", ["typo"]),
        ("tier", ["edge-filter"]),
        ("!tier", ["typo", "wan-filter"]),
        ("", ["edge-filter", "typo", "wan-filter"]),
    ],
)
def test_label_selectors(get: Get, selector: str, names: list[str]) -> None:
    found = get(f"{PROGRAMS}?labelSelector={selector}")["items"]
    assert [item["metadata"]["name"] for item in found] == names


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "=", "a,,b", "a in (b", "a>1", "a b"])
def test_label_selectors_that_are_none(text: str) -> None:
    with pytest.raises(ApiRefusal, match="cannot be read; write key=value"):
        parse_selector(text, "")


def test_field_selectors_that_are_none() -> None:
    with pytest.raises(ApiRefusal, match=r"only metadata\.name and metadata\.namespace"):
        parse_selector("", "status.state=Active")


# Tables


def test_the_table_of_programs(get: Get) -> None:
    table = get(f"{PROGRAMS}?fieldSelector=metadata.name=edge-filter", TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    narrow = ["Name", "Type", "Interface", "Ready", "Status", "Age"]
    wide = ["Mode", "Program-Id", "Packets", "Drops", "Reason", "Revision", "Origin"]
    assert columns == [*((name, 0) for name in narrow), *((name, 1) for name in wide)]
    assert table["rows"] == [
        {
            "cells": [
                *("edge-filter", "xdp", "eth0", "True", "Active", "61m", "native"),
                *("<unknown>", "<unknown>", "<unknown>"),
                *("ReadBack", "1a2b3c4d5e6f", "policy/edge.yaml:1"),
            ],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {
                    "name": "edge-filter",
                    "namespace": "default",
                    "uid": "9e80d2dc-5f11-57a7-bf98-4aa73093b3f9",
                    "resourceVersion": "1767135600000000003",
                    "generation": 1,
                    "creationTimestamp": THEN,
                    "labels": {"app": "edge", "tier": "outer"},
                    "annotations": {"owner": "noc@example.net"},
                },
            },
        }
    ]


def test_the_wide_columns_of_one(get: Get) -> None:
    cells = get(f"{PROGRAMS}/edge-filter", TABLE)["rows"][0]["cells"]
    assert cells[6:10] == ["native", "42", "1153", "153(blacklist=120,rate-limit=33)"]


def test_the_table_of_maps(get: Get) -> None:
    rows = [row["cells"] for row in get(f"{BASE}/ebpfmaps?details=true", TABLE)["rows"]]
    contents = "10.10.10.0/24=0x00000001,192.168.1.100/32=0x00000001,203.0.113.1/32=0x00000001,(+2)"
    assert rows[0][:5] == ["blacklist-map", "lpm_trie", "5/1024", "/sys/fs/bpf/blacklist", "True"]
    assert rows[0][5:9] == ["Created", "61m", "20480", contents]
    assert rows[1][:5] == ["counters", "array", "4/4", "<none>", "True"]
    assert rows[1][8] == "1=0x0700000000000000,(+3)"


# Versions


def test_a_version_changes_only_with_the_resource(get: Get, desk: FakeDesk) -> None:
    before = get(f"{PROGRAMS}/edge-filter")["metadata"]["resourceVersion"]
    desk.set_status(replace(desk.now.resources[WAN], remarks=("another",)))
    assert get(f"{PROGRAMS}/edge-filter")["metadata"]["resourceVersion"] == before
    changed = get(f"{PROGRAMS}/wan-filter")["metadata"]["resourceVersion"]
    assert changed == get(PROGRAMS)["metadata"]["resourceVersion"] == "1767135600000000004"


def test_many_headers_are_too_many() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MOST_HEADERS + 1) + b"\r\n"
    with pytest.raises(ApiRefusal) as caught:
        parse_head(head)
    assert caught.value.code == 431


PIECES = "GET |POST |/|?|&|=|%|%zz| HTTP/1.1|\r\n|\n|Host: x|Content-Length: |:|[|]|\x00|\xff|#"
ODD = st.lists(st.sampled_from(PIECES.split("|")), max_size=30).map("".join)


@given(ODD.map(lambda text: text.encode("latin-1")) | st.binary(max_size=200))
def test_no_bytes_but_refusals(head: bytes) -> None:
    try:
        request = parse_head(head)
        body_length(request, 100)
    except ApiRefusal as refusal:
        assert refusal.code in REASONS


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_selector_but_refusals(labels: str, fields: str) -> None:
    try:
        parse_selector(labels, fields).selects(FILTER, lambda: {"app": "edge"})
    except ApiRefusal as refusal:
        assert refusal.code == 400
