"""What EBPFContainerPolicies let one workload use, when all that select it have had their say.

Of each limit the policy with the lowest priority number decides that sets it. A policy that
selects the workload by labels which cannot be trusted may only make it stricter. What no policy
sets comes from the nearest workload above it (a slice), if that is limited; and where no policy
selects it by trusted labels, nothing that is set for it is looser than there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fos1d import abi
from fos1d.kinds.container_policy import (
    BandwidthLimits,
    ConnectionLimits,
    ContainerPolicySpec,
    DeviceControl,
)
from fos1d.kinds.policy_places import cgroups_above

SECOND = int(abi.Time.NS_PER_SECOND) << int(abi.Time.TIME_SHIFT)
MOST_BURST = 1 << 62
BURST = SECOND // 10
LEAST_BURST_BYTES = 3000
ANY = (1 << 32) - 1
DEVICE_TYPES = {"block": 1, "char": 2}

Device = tuple[int, int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Say:
    """A policy's say about a workload; `grants` unless its labels cannot be trusted."""

    spec: ContainerPolicySpec
    grants: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Bandwidth:
    """A rate, and how much may go at once, in bucket time at that rate."""

    bits_per_s: int
    burst: int


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices that may be used, as (type, major, minor) with ANY; None: all."""

    allowed: frozenset[Device] | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a workload may use; None: not limited."""

    accounted: bool = False
    inward: Bandwidth | None = None
    outward: Bandwidth | None = None
    most_connections: int | None = None
    connections_per_s: int | None = None
    devices: Devices | None = None


def limits_of(says: Sequence[Say]) -> Limits:
    """Return what policies, in their order, let a workload use."""
    links = [(say.spec.resource_limits.connection_limits, say.grants) for say in says]
    bands = [(say.spec.resource_limits.bandwidth_limits, say.grants) for say in says]
    return Limits(
        any(say.spec.resource_limits.enable_accounting for say in says),
        _decided(((_inward(found), grants) for found, grants in bands), min),
        _decided(((_outward(found), grants) for found, grants in bands), min),
        _decided(((_most(found), grants) for found, grants in links), min),
        _decided(((_per_second(found), grants) for found, grants in links), min),
        _decided(((_devices(say.spec.device_control), say.grants) for say in says), _both),
    )


def _decided(says: Iterable[tuple[T | None, bool]], strictest: Callable[[T, T], T]) -> T | None:
    """Return the first value that is set and may grant, or a stricter one of the others."""
    heard = [(value, grants) for value, grants in says if value is not None]
    decided = next((value for value, grants in heard if grants), None)
    for value, grants in heard:
        if not grants:
            decided = value if decided is None else strictest(decided, value)
    return decided


def _inward(limits: BandwidthLimits | None) -> Bandwidth | None:
    return bandwidth(limits.ingress_bits_per_second, limits.burst_bytes) if limits else None


def _outward(limits: BandwidthLimits | None) -> Bandwidth | None:
    return bandwidth(limits.egress_bits_per_second, limits.burst_bytes) if limits else None


def _most(limits: ConnectionLimits | None) -> int | None:
    return limits.max_connections if limits else None


def _per_second(limits: ConnectionLimits | None) -> int | None:
    return limits.max_connection_rate if limits else None


def bandwidth(bits_per_s: int | None, burst_bytes: int | None) -> Bandwidth | None:
    """Return a rate with its burst; unless one is given, 100 ms of it."""
    if bits_per_s is None:
        return None
    burst = max(BURST, _time_of(LEAST_BURST_BYTES, bits_per_s))
    if burst_bytes is not None:
        burst = _time_of(burst_bytes, bits_per_s)
    return Bandwidth(bits_per_s, min(burst, MOST_BURST))


def _time_of(count_bytes: int, bits_per_s: int) -> int:
    return count_bytes * 8 * SECOND // bits_per_s


# Devices


def _devices(control: DeviceControl) -> Devices | None:
    if not control.enable_device_control:
        return None
    if control.default_device_action == "allow":
        return Devices(None)
    return Devices(
        frozenset(
            (
                DEVICE_TYPES[device.device_type],
                ANY if device.major is None else device.major,
                ANY if device.minor is None else device.minor,
            )
            for device in control.allowed_devices
        )
    )


def _both(left: Devices, right: Devices) -> Devices:
    """Return what both allow."""
    if left.allowed is None or right.allowed is None:
        return right if left.allowed is None else left
    pairs = ((mine, other) for mine in left.allowed for other in right.allowed)
    return Devices(frozenset(found for pair in pairs for found in _common(*pair)))


def _common(left: Device, right: Device) -> Iterator[Device]:
    if all(ANY in (a, b) or a == b for a, b in zip(left, right, strict=True)):
        kind, major, minor = (min(a, b) for a, b in zip(left, right, strict=True))
        yield kind, major, minor


# Workloads within workloads


def inherited(
    own: Mapping[str, Limits], untrusted: Collection[str] = frozenset()
) -> dict[str, Limits]:
    """Return the limits by cgroup path, with what they lack from the nearest cgroup above."""
    whole: dict[str, Limits] = {}
    for path in sorted(own, key=lambda path: (path != ".", path.count("/"))):
        above = next((whole[up] for up in cgroups_above(path) if up in whole), Limits())
        join = _strictest if path in untrusted else _filled
        whole[path] = join(own[path], above)
    return whole


def _strictest(own: Limits, above: Limits) -> Limits:
    def decided(own: T | None, above: T | None, strictest: Callable[[T, T], T]) -> T | None:
        return _decided([(above, True), (own, False)], strictest)

    return Limits(
        own.accounted or above.accounted,
        decided(own.inward, above.inward, min),
        decided(own.outward, above.outward, min),
        decided(own.most_connections, above.most_connections, min),
        decided(own.connections_per_s, above.connections_per_s, min),
        decided(own.devices, above.devices, _both),
    )


def _filled(own: Limits, above: Limits) -> Limits:
    return Limits(
        own.accounted or above.accounted,
        own.inward or above.inward,
        own.outward or above.outward,
        own.most_connections or above.most_connections,
        own.connections_per_s or above.connections_per_s,
        own.devices or above.devices,
    )
