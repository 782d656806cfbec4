"""EBPFNATPolicy: translation of addresses and ports at an outside interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from fos1d.kinds.fields import Interface, Maybe, Name, Priority
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.translation import Translation
from fos1d.model.identity import ResourceId


class NatPolicySpec(Translation):
    """What an EBPFNATPolicy asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    interface: Interface = Field(description="The outside interface.")
    priority: Priority = Field(100, description="Order among policies; lower wins.")
    ebpf_program: Maybe[Name] = Field(
        None,
        description="An EBPFProgram (tc) in the same name space, in place of the built-in one.",
    )


class EBPFNATPolicy(Model):
    """Translation of addresses and ports at an outside interface."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFNATPolicy"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: NatPolicySpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        for fault in self.spec.timeouts.remarks():
            yield Fault(("spec", "timeouts", *fault.loc), fault.message)
