"""Who decides about a workload's limits, and what of them reaches the kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fos1d import abi
from fos1d.kinds.container_limits import (
    ANY,
    BURST,
    SECOND,
    Bandwidth,
    Devices,
    Limits,
    Say,
    bandwidth,
    inherited,
    limits_of,
)
from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.model.objects import CgroupAttachment, CgroupHook, Entries
from fos1d.model.workload import Provider, Workload
from tests.limited import lowered_policies, policy
from tests.manifests import resource

SELECTOR = "selector: {podSelector: {}}\n"
LIMITS = np.dtype([("cgroup", "<u8"), ("limits", abi.LIMITS)])


def say(text: str, grants: bool = True) -> Say:
    return Say(resource(EBPFContainerPolicy, SELECTOR + text).spec, grants)


def band(text: str, grants: bool = True) -> Say:
    return say(f"resourceLimits: {{bandwidthLimits: {{{text}}}}}", grants)


def devices(text: str, grants: bool = True) -> Say:
    switch = "enableDeviceControl: true"
    return say(f"deviceControl: {{{switch}, allowedDevices: [{text}]}}", grants)


def test_the_first_policy_that_sets_a_limit_decides() -> None:
    first = band("egressBitsPerSecond: 2Mbit")
    second = band("egressBitsPerSecond: 1Mbit, ingressBitsPerSecond: 3Mbit")
    found = limits_of([first, second])
    assert found.outward is not None
    assert found.inward is not None
    assert (found.outward.bits_per_s, found.inward.bits_per_s) == (2_000_000, 3_000_000)


def test_untrusted_labels_only_make_it_stricter() -> None:
    strict, wide = band("egressBitsPerSecond: 1Mbit"), band("egressBitsPerSecond: 9Mbit")
    for untrusted, trusted in ((wide, strict), (strict, wide)):
        found = limits_of([replace(untrusted, grants=False), trusted])
        assert found.outward == bandwidth(1_000_000, None)
    assert limits_of([replace(wide, grants=False)]).outward == bandwidth(9_000_000, None)


@pytest.mark.parametrize("untrusted", [True, False])
def test_untrusted_labels_never_allow_a_device(untrusted: bool) -> None:
    mine = devices("{deviceType: char, major: 1, minor: 5}, {deviceType: char, major: 10}")
    other = devices("{deviceType: char, major: 1}, {deviceType: block}")
    says = [replace(other, grants=False), mine] if untrusted else [mine, other]
    found = limits_of(says).devices
    everything = frozenset({(2, 1, 5), (2, 10, ANY)})
    assert found == Devices(frozenset({(2, 1, 5)}) if untrusted else everything)


def test_a_burst_is_time_at_the_rate() -> None:
    assert bandwidth(1_000_000_000, None) == Bandwidth(1_000_000_000, BURST)
    assert bandwidth(8_000, 2_000) == Bandwidth(8_000, 2 * SECOND)
    slow = bandwidth(8_000, None)
    assert slow is not None
    assert slow.burst == 3 * SECOND


def test_what_a_workload_lacks_comes_from_the_nearest_above() -> None:
    whole = inherited(
        {
            "a/b/c": Limits(most_connections=3),
            "a": Limits(accounted=True, most_connections=9, connections_per_s=7),
            "ab": Limits(accounted=True),
            ".": Limits(devices=Devices(None)),
        }
    )
    assert whole["a/b/c"] == Limits(True, None, None, 3, 7, Devices(None))
    assert whole["ab"] == Limits(accounted=True, devices=Devices(None))


def test_a_label_that_nobody_vouches_for_loosens_nothing_of_the_slice() -> None:
    slow, fast = Bandwidth(10, 1), Bandwidth(1000, 1)
    own = {"a": Limits(inward=slow, most_connections=9), "a/b": Limits(inward=fast, outward=fast)}
    assert inherited(own)["a/b"] == Limits(False, fast, fast, 9)
    assert inherited(own, {"a/b"})["a/b"] == Limits(False, slow, fast, 9)


# Lowering


def workload(path: str, number: int) -> Workload:
    return Workload(path, path, number, Provider.STATIC)


def entries(text: str, *workloads: Workload) -> dict[int, np.void]:
    """Return the records of workload_limits_of by cgroup id."""
    objects = lowered_policies(workloads, policy(text)).objects.values()
    (found,) = (o for o in objects if isinstance(o, Entries) and "limits_of" in o.map)
    return {int(r["cgroup"]): r["limits"] for r in np.frombuffer(found.packed, LIMITS)}


def test_records_of_limits() -> None:
    text = """
resourceLimits:
  enableAccounting: false
  bandwidthLimits: {ingressBitsPerSecond: 8Mbit, burstBytes: 1000000}
  connectionLimits: {maxConnections: 5, maxConnectionRate: 10}
"""
    record = entries(text, workload("db", 7))[7]
    assert (record["in_bits_per_s"], record["in_burst"]) == (8_000_000, SECOND)
    assert (record["out_bits_per_s"], record["out_burst"]) == (0, 0)
    assert (record["connection_cost"], record["connection_depth"]) == (
        SECOND // 10,
        SECOND // 10 * 9,
    )
    assert (record["max_connections"], record["flags"]) == (5, 0)


def hooks(text: str, *workloads: Workload) -> dict[str, set[CgroupHook]]:
    """Return the hooks of each cgroup that has programs."""
    found: dict[str, set[CgroupHook]] = {}
    for obj in lowered_policies(workloads, policy(text)).objects.values():
        if isinstance(obj, CgroupAttachment):
            found.setdefault(obj.cgroup, set()).add(obj.hook)
    return found


CONNECTIONS = {CgroupHook.CONNECT4, CgroupHook.CONNECT6, CgroupHook.SOCK_OPS}
CONNECTIONS |= {CgroupHook.SOCK_RELEASE}
PACKETS = {CgroupHook.INGRESS, CgroupHook.EGRESS}


def test_only_the_topmost_cgroup_has_programs() -> None:
    found = hooks("resourceLimits: {}", workload("a", 1), workload("a/b", 2), workload("ab", 3))
    assert found == {"a": PACKETS | CONNECTIONS, "ab": PACKETS | CONNECTIONS}


def test_a_policy_without_limits_has_none() -> None:
    found = hooks("resourceLimits: {enableAccounting: false}", workload("a", 1))
    assert found == {"a": PACKETS}


def test_devices_are_controlled_only_where_it_is_asked_for() -> None:
    control = "deviceControl: {enableDeviceControl: true}"
    assert CgroupHook.DEVICE in hooks(control, workload("a", 1))["a"]
    control = "deviceControl: {enableDeviceControl: true, defaultDeviceAction: allow}"
    assert CgroupHook.DEVICE not in hooks(control, workload("a", 1))["a"]
