"""Specs as they are written. A file with many documents is not loaded anew for each of them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fos1d.kinds.declaration import Declaration
from fos1d.manifest import load_documents

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
            self._keep(source, {d.index: json.dumps(d.data["spec"]) for d in documents})
        return next(d.data["spec"] for d in documents if d.index == declaration.index)

    def _keep(self, source: bytes, specs: Specs) -> None:
        with self._lock:
            self._files[source] = specs
            while len(self._files) > MOST_FILES:
                self._files.popitem(last=False)
