"""The six kinds that users write: their schemas, what is wrong in them, what they lower to.

Belongs here: one file per kind with its pydantic schema (and its lowering to kernel objects), the
parts that kinds share, parsing of manifests into declarations, checks over all of them. Pure.
Must not be here: YAML syntax (manifest/), reading files (source/, cli/), the kernel (kernel/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fos1d.kinds.container_policy import EBPFContainerPolicy
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.nat_policy import EBPFNATPolicy
from fos1d.kinds.network_policy import EBPFNetworkPolicy
from fos1d.kinds.program import EBPFProgram
from fos1d.kinds.traffic_control import EBPFTrafficControl

Resource: TypeAlias = (
    EBPFProgram
    | EBPFMap
    | EBPFNetworkPolicy
    | EBPFTrafficControl
    | EBPFNATPolicy
    | EBPFContainerPolicy
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, its names on the command line, and its schema. `slug` names its files and pages."""

    name: str
    plural: str
    short: str
    slug: str
    model: type[Resource]

    @property
    def singular(self) -> str:
        """The name in lower case."""
        return self.name.lower()


KINDS = (
    Kind("EBPFProgram", "ebpfprograms", "ebpf", "program", EBPFProgram),
    Kind("EBPFMap", "ebpfmaps", "ebpfmap", "map", EBPFMap),
    Kind("EBPFNetworkPolicy", "ebpfnetworkpolicies", "enpol", "network_policy", EBPFNetworkPolicy),
    Kind(
        "EBPFTrafficControl", "ebpftrafficcontrols", "etcl", "traffic_control", EBPFTrafficControl
    ),
    Kind("EBPFNATPolicy", "ebpfnatpolicies", "enat", "nat_policy", EBPFNATPolicy),
    Kind(
        "EBPFContainerPolicy",
        "ebpfcontainerpolicies",
        "ecpol",
        "container_policy",
        EBPFContainerPolicy,
    ),
)

BY_NAME = {kind.name: kind for kind in KINDS}
_BY_WORD = {word: kind for kind in KINDS for word in (kind.singular, kind.plural, kind.short)}


def find_kind(word: str) -> Kind | None:
    """Return the kind of that name, plural or short name, in any case."""
    return _BY_WORD.get(word.lower())


def kind_words() -> list[str]:
    """Return every word that `find_kind` knows, in lower case."""
    return sorted(_BY_WORD)
