"""Where a manifest's file references lead."""

from __future__ import annotations

from fos1d.kinds.names import FileReference
from fos1d.quantity import shown


def resolve(manifest_path: str, reference: FileReference | str) -> str:
    """Return the path, from the source's root, of the file that a manifest refers to.

    A reference that begins with ./ or ../ starts at the manifest's folder, any other at the root.
    Raises ValueError for one that leaves the root.
    """
    relative = reference.split("/", 1)[0] in (".", "..")
    steps = manifest_path.split("/")[:-1] if relative else []
    for part in reference.split("/"):
        if part == "..":
            if not steps:
                raise ValueError(f"{shown(reference)} leaves the source; files lie within it")
            steps.pop()
        elif part not in ("", "."):
            steps.append(part)
    if reference.startswith("/") or not steps:
        raise ValueError(f"{shown(reference)} is no file within the source")
    return "/".join(steps)
