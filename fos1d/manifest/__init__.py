"""YAML in, plain data out: strict, with the line and column of everything, and never a crash.

Belongs here: what holds for any manifest, whatever its kind: syntax, limits, the scalars that YAML
versions read differently, "did you mean". Pure: bytes come in, values and diagnostics go out.
Must not be here: kinds and their fields (kinds/), reading files (source/, cli/).
"""

from fos1d.manifest.loader import Document, Loc, load_documents
from fos1d.manifest.scalars import Hex
from fos1d.manifest.suggest import did_you_mean, suggest

__all__ = ["Document", "Hex", "Loc", "did_you_mean", "load_documents", "suggest"]
