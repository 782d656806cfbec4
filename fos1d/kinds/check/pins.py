"""Places of which there is one: a path on bpffs, the qdisc of an interface and direction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import PurePosixPath

from fos1d.kinds.check.contest import contest
from fos1d.kinds.check.found import Found
from fos1d.kinds.declaration import Declaration
from fos1d.kinds.map import EBPFMap
from fos1d.kinds.traffic_control import EBPFTrafficControl


def pin_contention(ranked: Iterable[Declaration]) -> Iterator[Found]:
    """Yield each pinPath that is another map's, or lies below or above another map's."""
    holders: defaultdict[PurePosixPath, list[Declaration]] = defaultdict(list)
    above: defaultdict[PurePosixPath, list[Declaration]] = defaultdict(list)
    for declaration in ranked:
        resource = declaration.resource
        if not isinstance(resource, EBPFMap) or (path := resource.spec.pin_path) is None:
            continue
        yield from _pin(declaration, path, holders, above)
        holders[path].append(declaration)
        for parent in path.parents:
            above[parent].append(declaration)


def _pin(
    declaration: Declaration,
    path: PurePosixPath,
    holders: dict[PurePosixPath, list[Declaration]],
    above: dict[PurePosixPath, list[Declaration]],
) -> Iterator[Found]:
    loc, advice = ("spec", "pinPath"), "choose another path"
    wanted = chain(
        ((f"{path}", holder) for holder in holders.get(path, ())),
        (
            (f"{parent}, a map and no folder,", holder)
            for parent in path.parents
            for holder in holders.get(parent, ())
        ),
        ((f"{path} is a folder: a pin below it", holder) for holder in above.get(path, ())),
    )
    found = (
        item for what, rival in wanted for item in contest(rival, declaration, loc, what, advice)
    )
    yield from islice(found, 1)


def queue_contention(ranked: Iterable[Declaration]) -> Iterator[Found]:
    """Yield each EBPFTrafficControl whose interface and direction are another's."""
    holders: defaultdict[tuple[str, str], list[Declaration]] = defaultdict(list)
    for declaration in ranked:
        resource = declaration.resource
        if not isinstance(resource, EBPFTrafficControl):
            continue
        place = (resource.spec.interface, resource.spec.direction)
        what, advice = f"{place[1]} of {place[0]}", "keep one manifest for it"
        found = (
            item
            for holder in holders[place]
            for item in contest(holder, declaration, ("spec", "interface"), what, advice)
        )
        yield from islice(found, 1)
        holders[place].append(declaration)
