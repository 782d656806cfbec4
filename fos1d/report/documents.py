"""Specs as they are written. A file with many documents is not loaded anew for each of them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fos1d.kinds.declaration import Declaration
from fos1d.manifest import Hex, load_documents

MOST_FILES = 2

Specs = Mapping[int, str]


@dataclass(slots=True)
class Documents:
    """The files that were asked for last; of each the specs, as JSON, by document.

    Safe from any thread.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _files: OrderedDict[bytes, Specs] = field(default_factory=OrderedDict)

    def spec_of(self, declaration: Declaration) -> Any:
        """Return a spec as it is written."""
        source = declaration.source
        with self._lock:
            specs = self._files.get(source)
            if specs is not None:
                self._files.move_to_end(source)
                return json.loads(specs[declaration.index])
        documents, _ = load_documents(declaration.origin.path, source)
        if len(documents) > 1:
            self._keep(source, {d.index: json.dumps(_shown(d.data["spec"])) for d in documents})
        return next(_shown(d.data["spec"]) for d in documents if d.index == declaration.index)

    def _keep(self, source: bytes, specs: Specs) -> None:
        with self._lock:
            self._files[source] = specs
            while len(self._files) > MOST_FILES:
                self._files.popitem(last=False)


def _shown(spec: Any) -> Any:
    """Return a spec with the hex of map entries as text: the same number in decimal would mean
    other bytes."""
    if not isinstance(spec, dict) or not isinstance(spec.get("initData"), list):
        return spec
    return {**spec, "initData": [_entry(entry) for entry in spec["initData"]]}


def _entry(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {name: v.text if isinstance(v, Hex) else v for name, v in entry.items()}
