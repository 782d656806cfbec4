"""EBPFContainerPolicy: limits, rules and devices of workloads."""

from __future__ import annotations

from fos1d.kinds.container_policy import ContainerPolicySpec, EBPFContainerPolicy
from tests.manifests import found, manifest, resource

SELECTOR = "selector: {podSelector: {matchLabels: {app: db}}}\n"


def spec(text: str) -> ContainerPolicySpec:
    return resource(EBPFContainerPolicy, text).spec


def test_defaults() -> None:
    policy = spec("selector: {podSelector: {}}")
    assert policy.priority == 1000
    assert policy.resource_limits.enable_accounting
    controls = policy.network_controls
    assert not controls.enable_egress_control
    assert not controls.enable_ingress_control
    assert (controls.default_egress_action, controls.default_ingress_action) == ("allow", "allow")
    assert policy.device_control.default_device_action == "deny"
    assert policy.selector.pod_selector is not None
    assert policy.selector.pod_selector.selects({})


def test_limits_and_rules() -> None:
    policy = spec(
        SELECTOR
        + """
resourceLimits:
  bandwidthLimits: {ingressBitsPerSecond: 1000, egressBitsPerSecond: 2Mbit, burstBytes: 64kb}
  connectionLimits: {maxConnections: 5, maxConnectionRate: 6}
networkControls:
  enableEgressControl: true
  defaultEgressAction: deny
  egressRules:
    - {ports: [{protocol: UDP, port: 53}], ipBlock: {cidr: 10.0.0.0/8}}
deviceControl:
  enableDeviceControl: true
  allowedDevices: [{deviceType: char, major: 1, minor: 3}, {deviceType: block}]
"""
    )
    limits = policy.resource_limits.bandwidth_limits
    assert limits is not None
    assert (limits.ingress_bits_per_second, limits.egress_bits_per_second) == (1000, 2_000_000)
    assert limits.burst_bytes == 65536
    assert not policy.network_controls.egress_rules[0].matches_all
    assert [device.major for device in policy.device_control.allowed_devices] == [1, None]


def test_a_forgotten_switch_is_told() -> None:
    said = found(manifest("EBPFContainerPolicy", SELECTOR + "networkControls: {egressRules: [{}]}"))
    assert said == [
        "spec.networkControls.egressRules warning: has no effect: enableEgressControl is false by"
        " default; write `enableEgressControl: true`, or false"
    ]
