"""Which container was which: kept beside the daemon, so that after its restart no container is a
stranger while its engine is slow, or gone. An id never comes back as another container.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fos1d.kernel.workloads.identify import Container
from fos1d.model.workload import Provider


def remember(file: Path, containers: Sequence[Container]) -> None:
    """Write the containers down; a failure costs only the memory."""
    text = json.dumps([asdict(one) for one in containers], default=str, sort_keys=True)
    with suppress(OSError):
        if file.exists() and file.read_text() == text:
            return
        staged = file.with_name(f"{file.name}.new")
        staged.write_text(text)
        staged.rename(file)


def recall(file: Path) -> tuple[Container, ...]:
    """Return the containers that were written down; none where that cannot be read."""
    try:
        return tuple(_container(item) for item in json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _container(item: dict[str, Any]) -> Container:
    addresses = tuple(ip_address(text) for text in item["addresses"])
    told = {**item, "addresses": addresses, "macs": tuple(item["macs"])}
    return Container(**{**told, "provider": Provider(item["provider"])})
