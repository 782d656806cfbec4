"""Lists as tables (Kubernetes' meta.k8s.io/v1 Table): the columns that `fos1ctl get` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fos1d.report.columns import COLUMNS, Column
from fos1d.report.row import Row
from fos1d.report.status import ResourceStatus
from fos1d.report.versions import Seen
from fos1d.report.views import Answer, metadata_of

Json = dict[str, Any]


def asks_kernel(kind: str, wide: bool) -> bool:
    """Whether a table of this kind has columns that only the kernel can fill."""
    return any(column.asks_kernel and (wide or not column.priority) for column in COLUMNS[kind])


def table_of(
    kind: str,
    statuses: Iterable[ResourceStatus],
    seen: Seen,
    answer: Callable[[ResourceStatus], Answer],
    now_s: float,
) -> Json:
    """Return the table of these resources, all of one kind."""
    rows = [Row(status, answer(status), now_s) for status in statuses]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": seen.version},
        "columnDefinitions": [_definition(column) for column in COLUMNS[kind]],
        "rows": [_row(row, kind, seen) for row in rows],
    }


def _definition(column: Column) -> Mapping[str, object]:
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" else "",
        "description": column.description,
        "priority": column.priority,
    }


def _row(row: Row, kind: str, seen: Seen) -> Json:
    return {
        "cells": [column.cell(row) for column in COLUMNS[kind]],
        "object": {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata_of(row.status, seen),
        },
    }
