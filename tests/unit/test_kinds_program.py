"""EBPFProgram: what a valid manifest becomes, and what belongs to which type."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import PurePosixPath

import pytest

from fos1d.kinds.program import EBPFProgram, ProgramSpec
from fos1d.kinds.program_settings import BELONGS_TO, RateLimiting, Settings
from tests.manifests import found, manifest, resource


def spec(text: str) -> ProgramSpec:
    return resource(EBPFProgram, text).spec


def complaints(text: str) -> list[str]:
    return found(manifest("EBPFProgram", text))


def test_defaults() -> None:
    program = spec("type: xdp\ninterface: eth0")
    assert (program.priority, program.mode, program.cgroup, program.source) == (
        10,
        "auto",
        None,
        None,
    )
    settings = program.settings
    assert settings == Settings()
    assert not settings.rate_limiting.enabled
    assert not settings.blacklist.enabled
    assert not settings.stateful
    assert settings.stateful_grace_seconds == 60
    assert settings.rate_limiting.packets_per_second == 1000
    assert settings.traffic_control.mark_mask == 0xFFFFFFFF


@pytest.mark.parametrize(("rate", "burst"), [(1, 32), (319, 32), (330, 33), (10_000, 1000)])
def test_the_burst_follows_the_rate(rate: int, burst: int) -> None:
    limit = RateLimiting.model_validate({"packetsPerSecond": rate})
    assert limit.burst_packets == burst
    assert RateLimiting.model_validate({"packetsPerSecond": rate, "burst": 7}).burst_packets == 7


def test_addresses_become_networks() -> None:
    program = spec("""
        type: xdp
        interface: eth0
        settings:
          blacklist:
            enabled: true
            ips: [192.168.1.100, "10.10.10.0/24", "2001:DB8::/32", "::1"]
        """)
    assert program.settings.blacklist.ips == (
        IPv4Network("192.168.1.100/32"),
        IPv4Network("10.10.10.0/24"),
        IPv6Network("2001:db8::/32"),
        IPv6Network("::1/128"),
    )


@pytest.mark.parametrize("name", ["eth0", "a" * 15, "eth*", "wan[0-9]", "eth0.100", "e?h*" * 4])
def test_interfaces(name: str) -> None:
    assert spec(f"type: xdp\ninterface: '{name}'").interface == name


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b", "..", "[", "x" * 16 + "*", "e" * 200])
def test_no_interfaces(name: str) -> None:
    assert len(complaints(f"type: xdp\ninterface: '{name}'")) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [("/", "."), ("system.slice", "system.slice"), ("/a/b.scope/", "a/b.scope")],
)
def test_cgroups(text: str, path: str) -> None:
    assert spec(f"type: cgroup\ncgroup: {text}").cgroup == PurePosixPath(path)


VALUES = {
    "rateLimiting": "{enabled: true}",
    "blacklist": "{enabled: false}",
    "statefulGraceSeconds": "5",
    "connectionsPerSecond": "5",
    "connectionsPerIP": "5",
    "trafficControl": "{enableQoS: true, enableDSCP: true}",
    "socketOps": "{}",
    "containerPolicy": "{}",
}


@pytest.mark.parametrize("setting", sorted(BELONGS_TO))
@pytest.mark.parametrize("hook", ["xdp", "tc-ingress", "tc-egress", "sockops", "cgroup"])
def test_settings_belong_to_types(setting: str, hook: str) -> None:
    where = "" if hook in ("sockops", "cgroup") else "\ninterface: eth0"
    value = VALUES.get(setting, "true")
    said = complaints(f"type: {hook}{where}\nsettings: {{{setting}: {value}}}")
    expected = f"spec.settings.{setting} does not belong to type {hook}, only to "
    assert [line.startswith(expected) for line in said] == [True] * (
        hook not in BELONGS_TO[setting]
    )


def test_every_setting_belongs_somewhere() -> None:
    assert {str(info.alias) for info in Settings.model_fields.values()} == set(BELONGS_TO)


@pytest.mark.parametrize(
    "source", ["{object: ./a.o, program: xdp_main}", "{bcc: src/a.c, function: filter}"]
)
def test_sources(source: str) -> None:
    program = spec(f"type: xdp\ninterface: eth0\nsource: {source}")
    assert program.source is not None


def test_a_source_replaces_the_settings() -> None:
    said = complaints("""
        type: xdp
        interface: eth0
        source: {object: ./a.o, program: f}
        settings: {stateful: true}
        """)
    assert said == [
        "spec.settings.stateful belongs to the built-in program, which source replaces; remove one"
    ]


def test_a_list_that_is_kept_but_off_is_fine() -> None:
    assert (
        complaints("""
        type: xdp
        interface: eth0
        settings: {blacklist: {enabled: false, ips: ["192.0.2.1"]}}
        """)
        == []
    )


def test_combinations_are_told_along_with_wrong_fields() -> None:
    said = complaints("type: xdp\npriority: high\nsettings: {socketOps: {}}\ncgroup: a")
    assert said == [
        "spec.interface is required for type xdp",
        'spec.priority must be a whole number, not the text "high"',
        "spec.settings.socketOps does not belong to type xdp, only to sockops",
        "spec.cgroup does not belong to type xdp; use interface",
    ]
