"""Workload files (`/etc/fos1d/workloads.d/*.yaml`): labels for cgroups, written by hand.

They are read like manifests, as strictly and with the same messages, but are none: they belong to
the router and not to the repository. docs/reference/workloads.md shows one.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pydantic import Field, ValidationError

from fos1d.kinds.fields import AtLeastOne, Cgroup, HostAddress, Listed, Name, NamespaceName
from fos1d.kinds.messages import findings_of
from fos1d.kinds.meta import Labels, Model
from fos1d.manifest import Document, load_documents
from fos1d.manifest.loader import field_path
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.workload import DEFAULT_NAMESPACE

KEY = "[key]"


class StaticWorkload(Model):
    """One entry: every cgroup that it names is a workload."""

    name: Name = Field(description="Its name, for people and in `appliedTo`.")
    namespace: NamespaceName = Field(DEFAULT_NAMESPACE, description="Its name space.")
    labels: Labels = Field(default_factory=dict, description="What podSelector looks at.")
    cgroups: AtLeastOne[Cgroup] = Field(
        description="Paths below the cgroup2 root; `*`, `?` and `[…]` match within one name."
    )
    addresses: Listed[HostAddress] = Field((), description="Its own addresses, if it has some.")

    def names(self, cgroup: str) -> bool:
        """Whether the cgroup at a path below the root is meant."""
        return any(_matches(pattern, PurePosixPath(cgroup)) for pattern in self.cgroups)


def _matches(pattern: PurePosixPath, path: PurePosixPath) -> bool:
    return len(pattern.parts) == len(path.parts) and all(
        fnmatchcase(name, wanted) for name, wanted in zip(path.parts, pattern.parts, strict=True)
    )


class WorkloadFile(Model):
    """A document of a workload file."""

    workloads: Listed[StaticWorkload] = Field((), description="Labels for cgroups.")
    namespaces: dict[NamespaceName, Labels] = Field(
        default_factory=dict, description="What namespaceSelector looks at, by name space."
    )


def parse_workload_file(path: str, data: bytes) -> tuple[list[WorkloadFile], list[Diagnostic]]:
    """Return the documents of a workload file, and everything that is wrong in it.

    A document with a mistake is left out. No bytes make this raise.
    """
    documents, findings = load_documents(path, data)
    read: list[WorkloadFile] = []
    for document in documents:
        try:
            found = WorkloadFile.model_validate(document.data)
        except ValidationError as error:
            findings += _placed(document, error)
        else:
            read += [] if document.flaws else [found]
    return read, sorted(findings)


def _placed(document: Document, error: ValidationError) -> Iterator[Diagnostic]:
    places = document.places()
    for details in error.errors(include_url=False):
        # So pydantic says that the key itself is wrong.
        at_key = KEY in details["loc"]
        details["loc"] = tuple(step for step in details["loc"] if step != KEY)
        for loc, message, really in findings_of(details, WorkloadFile, document.data):
            yield Diagnostic(places.where(loc, at_key or really), field_path(loc), message)
