"""Workloads: the local programs that policies select by label, each in a cgroup of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
DEFAULT_NAMESPACE = "default"


class Provider(StrEnum):
    """Who told of a workload; where several did, the first of these."""

    STATIC = "static"
    PODMAN = "podman"
    DOCKER = "docker"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class Workload:
    """A cgroup and what is said of it; all that is below it belongs to it, unless it is another.

    `cgroup` is its path below the cgroup2 root, `.` the root itself. Only `trusted_labels` may
    grant something; the others among `labels` may bring restrictions. Name space and addresses
    were told by somebody trusted. A workload without addresses of its own uses the host's.
    """

    name: str
    cgroup: str
    cgroup_id: int
    provider: Provider
    namespace: str = DEFAULT_NAMESPACE
    labels: Mapping[str, str] = field(default_factory=dict)
    trusted_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    macs: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether all its labels may grant something."""
        return self.labels == self.trusted_labels
