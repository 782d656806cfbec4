"""EBPFProgram: a program on a hook of the kernel, built in or the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from pydantic import Field

from fos1d.kinds.fields import Cgroup, File, Function, Interfaces, Maybe, Priority
from fos1d.kinds.meta import (
    DESCRIPTION,
    NODE_SELECTOR,
    ApiVersion,
    Fault,
    LabelSelector,
    Metadata,
    Model,
)
from fos1d.kinds.program_settings import BELONGS_TO, CGROUP_HOOKS, PACKET_HOOKS, Settings
from fos1d.model.identity import ResourceId

ProgramType: TypeAlias = Literal["xdp", "tc-ingress", "tc-egress", "sockops", "cgroup"]


class Source(Model):
    """The user's own program: a compiled CO-RE object, or BCC C that the router compiles."""

    object: Maybe[File] = Field(None, description="A compiled CO-RE object in the source.")
    program: Maybe[Function] = Field(None, description="The program in the object.")
    bcc: Maybe[File] = Field(None, description="A BCC C file in the source.")
    function: Maybe[Function] = Field(None, description="The function in the BCC C file.")

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.object and self.bcc:
            yield Fault(("bcc",), "excludes object; keep one of the two")
        elif not self.object and not self.bcc:
            yield Fault((), "names no file; give object and program, or bcc and function")
        elif self.object:
            yield from self._pair("object", "program", self.program, "function", self.function)
        else:
            yield from self._pair("bcc", "function", self.function, "program", self.program)

    def _pair(
        self, file: str, name: str, given: str | None, other: str, wrong: str | None
    ) -> Iterator[Fault]:
        if given is None:
            yield Fault((name,), f"is required: it names what to run in the {file} file")
        if wrong is not None:
            yield Fault((other,), f"does not go with {file}; write {name}")


class ProgramSpec(Model):
    """What an EBPFProgram asks for."""

    description: str = Field("", description=DESCRIPTION)
    node_selector: Maybe[LabelSelector] = Field(None, description=NODE_SELECTOR)
    type: ProgramType = Field(description="The hook.")
    interface: Maybe[Interfaces] = Field(
        None,
        description="xdp, tc-*: the interface; required. A shell glob (`eth*`) matches several.",
    )
    priority: Priority = Field(
        10, description="Order among the programs on one hook; lower runs first."
    )
    cgroup: Maybe[Cgroup] = Field(
        None,
        description="sockops, cgroup: path below the cgroup2 root; by default the root. Where an"
        " EBPFContainerPolicy names the program, it runs on that one's workloads instead.",
    )
    mode: Literal["auto", "native", "generic"] = Field(
        "auto", description="xdp: `auto` tries native, then generic; status says which it is."
    )
    settings: Settings = Field(Settings(), description="What the built-in program does.")
    source: Maybe[Source] = Field(
        None, description="The user's own program in place of the built-in one."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        if self.type in PACKET_HOOKS and self.interface is None:
            yield Fault(("interface",), f"is required for type {self.type}")
        if self.type in CGROUP_HOOKS and self.interface is not None:
            yield Fault(("interface",), f"does not belong to type {self.type}; use cgroup")
        if self.type in PACKET_HOOKS and self.cgroup is not None:
            yield Fault(("cgroup",), f"does not belong to type {self.type}; use interface")
        if self.type != "xdp" and "mode" in self.model_fields_set:
            yield Fault(("mode",), f"does not belong to type {self.type}, only to xdp")
        for setting in self.settings.written():
            yield from self._setting(setting)

    def _setting(self, setting: str) -> Iterator[Fault]:
        hooks = BELONGS_TO[setting]
        if self.type not in hooks:
            only = ", ".join(sorted(hooks))
            message = f"does not belong to type {self.type}, only to {only}"
            yield Fault(("settings", setting), message)
        elif self.source is not None:
            message = "belongs to the built-in program, which source replaces; remove one"
            yield Fault(("settings", setting), message)


class EBPFProgram(Model):
    """A program on a hook of the kernel: filtering, limits, marks, monitoring."""

    api_version: ApiVersion = Field(description="The version of the schema.")
    kind: Literal["EBPFProgram"] = Field(description="The kind.")
    metadata: Metadata = Field(description="Who the resource is.")
    spec: ProgramSpec = Field(description="What is asked for.")

    @property
    def id(self) -> ResourceId:
        """Who the resource is."""
        return self.metadata.id_of(self.kind)

    def remarks(self) -> Iterator[Fault]:
        """Yield what is odd though allowed."""
        for fault in self.spec.settings.remarks():
            yield Fault(("spec", "settings", *fault.loc), fault.message)
