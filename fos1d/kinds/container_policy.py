"""EBPFContainerPolicy: traffic, limits and devices of local workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import BitsPerSecond, Count, Listed, Maybe, Name, Priority, SizeBytes
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.rules import IpBlock, PortRule, small_burst, unreachable
from fos1d.model.identity import ResourceId

DefaultAction: TypeAlias = Literal["allow", "deny"]
Way: TypeAlias = Literal["ingress", "egress"]


class WorkloadSelector(Model):
    """Which workloads a policy applies to."""

    pod_selector: Maybe[LabelSelector] = Field(None, description="Workloads by label.")
    namespace_selector: Maybe[LabelSelector] = Field(
        None, description="Workloads by the labels of their name space."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if not self.model_fields_set:
            message = "names no workloads; give podSelector or namespaceSelector"
            yield Fault((), f"{message} (an empty one, {{}}, selects all)")


class BandwidthLimits(Model):
    """Limits on bits per second, per workload."""

    ingress_bits_per_second: Maybe[BitsPerSecond] = Field(None, description="Incoming traffic.")
    egress_bits_per_second: Maybe[BitsPerSecond] = Field(None, description="Outgoing traffic.")
    burst_bytes: Maybe[SizeBytes] = Field(None, description="Bytes that may come at once.")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.written() == ["burstBytes"]:
            message = "needs ingressBitsPerSecond or egressBitsPerSecond, the limit that it is for"
            yield Fault(("burstBytes",), message)


class ConnectionLimits(Model):
    """Limits on TCP connections and connected UDP sockets, per workload."""

    max_connections: Maybe[Count] = Field(None, description="Connections at one time.")
    max_connection_rate: Maybe[Count] = Field(None, description="New connections per second.")


class ResourceLimits(Model):
    """What each workload may use."""

    enable_accounting: bool = Field(True, description="Count bytes and packets each way.")
    bandwidth_limits: Maybe[BandwidthLimits] = Field(None, description="Bits per second.")
    connection_limits: Maybe[ConnectionLimits] = Field(None, description="Connections.")


class WorkloadRule(Model):
    """Which traffic of a workload, and what becomes of it."""

    description: str = Field("", description=DESCRIPTION)
    ip_block: Maybe[IpBlock] = Field(None, description="The other end; by default any.")
    ports: Listed[PortRule] = Field((), description="Destination ports; empty: any.")
    action: Literal["allow", "deny", "log"] = Field(
        "allow", description="`allow` and `deny` decide; `log` goes on."
    )

    @property
    def matches_all(self) -> bool:
        """Whether the rule matches all traffic."""
        return self.ip_block is None and not self.ports


class NetworkControls(Model):
    """What each workload may send and receive; the first rule that matches wins."""

    enable_egress_control: bool = Field(False, description="Whether egressRules are in force.")
    enable_ingress_control: bool = Field(False, description="Whether ingressRules are in force.")
    default_egress_action: DefaultAction = Field(
        "allow", description="What becomes of outgoing traffic that no rule decides about."
    )
    default_ingress_action: DefaultAction = Field(
        "allow", description="What becomes of incoming traffic that no rule decides about."
    )
    egress_rules: Listed[WorkloadRule] = Field((), description="Rules for outgoing traffic.")
    ingress_rules: Listed[WorkloadRule] = Field((), description="Rules for incoming traffic.")

    def controls(self, way: Way) -> bool:
        """Whether the rules of a direction are in force."""
        return self.enable_ingress_control if way == "ingress" else self.enable_egress_control

    def rules(self, way: Way) -> tuple[WorkloadRule, ...]:
        """Return the rules of a direction."""
        return self.ingress_rules if way == "ingress" else self.egress_rules

    def default(self, way: Way) -> DefaultAction | None:
        """Return the default action of a direction, if the manifest sets it."""
        if f"default_{way}_action" not in self.model_fields_set:
            return None
        return self.default_ingress_action if way == "ingress" else self.default_egress_action

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        written = set(self.written())
        for way in ("Egress", "Ingress"):
            rules, default = f"{way.lower()}Rules", f"default{way}Action"
            switch = f"enable{way}Control"
            for field in sorted({rules, default} & written):
                if switch not in written:
                    message = f"has no effect: {switch} is false by default"
                    yield Fault((field,), f"{message}; write `{switch}: true`, or false")
        yield from _unreachable("egressRules", self.egress_rules)
        yield from _unreachable("ingressRules", self.ingress_rules)


def _unreachable(field: str, rules: tuple[WorkloadRule, ...]) -> Iterator[Fault]:
    order = [(rule.matches_all, rule.action != "log") for rule in rules]
    if found := unreachable(order):
        index, earlier = found
        message = f"is never reached, nor what follows: {field}[{earlier}] decides about the rest"
        yield Fault((field, index), message)


class Device(Model):
    """A device, or several where a number is left out."""

    device_type: Literal["char", "block"] = Field(description="The sort of device.")
    major: Maybe[Annotated[int, Field(ge=0, le=4095)]] = Field(
        None, description="Major number; by default any."
    )
    minor: Maybe[Annotated[int, Field(ge=0, le=(1 << 20) - 1)]] = Field(
        None, description="Minor number; by default any."
    )
    description: str = Field("", description=DESCRIPTION)

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.minor is not None and self.major is None:
            yield Fault(("major",), "is required beside minor")


class DeviceControl(Model):
    """Which devices each workload may use."""

    enable_device_control: bool = Field(False, description="Whether device access is controlled.")
    default_device_action: DefaultAction = Field(
        "deny", description="What becomes of access to a device that is not listed."
    )
    allowed_devices: Listed[Device] = Field((), description="Devices that may be used.")

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        written = self.written()
        if written and "enableDeviceControl" not in written:
            message = "has no effect: enableDeviceControl is false by default"
            yield Fault((), f"{message}; write `enableDeviceControl: true`, or false")
        if self.allowed_devices and self.default_device_action == "allow":
            message = "makes no difference: defaultDeviceAction allows every device"
            yield Fault(("allowedDevices",), message)


class ContainerPolicySpec(Model):
    """What an EBPFContainerPolicy asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    selector: WorkloadSelector = Field(description="Which workloads it applies to.")
    priority: Priority = Field(1000, description="Order among policies; lower wins.")
    resource_limits: ResourceLimits = Field(
        ResourceLimits(), description="What each workload may use."
    )
    network_controls: NetworkControls = Field(
        NetworkControls(), description="What each workload may send and receive."
    )
    device_control: DeviceControl = Field(
        DeviceControl(), description="Which devices each workload may use."
    )
    ebpf_program: Maybe[Name] = Field(
        None,
        description="An EBPFProgram (cgroup) in the same name space, beside the built-in ones.",
    )


class EBPFContainerPolicy(Model):
    """Traffic, limits and devices of local workloads."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFContainerPolicy"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: ContainerPolicySpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        limits = self.spec.resource_limits.bandwidth_limits
        if limits and (message := small_burst(limits.burst_bytes)):
            loc = ("spec", "resourceLimits", "bandwidthLimits", "burstBytes")
            yield Fault(loc, message)
        for fault in self.spec.network_controls.remarks():
            yield Fault(("spec", "networkControls", *fault.loc), fault.message)
        for fault in self.spec.device_control.remarks():
            yield Fault(("spec", "deviceControl", *fault.loc), fault.message)
