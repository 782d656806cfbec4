"""Checks over all declarations together: identities, references, two that want one thing.

Belongs here: what no manifest shows alone. Each module yields what it finds as values; the
positions are looked up at the end, once per file. Pure.
Must not be here: what one manifest shows alone (the kinds' own schemas).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from fos1d.kinds.check.contest import rank
from fos1d.kinds.check.found import Found, place
from fos1d.kinds.check.identity import duplicates
from fos1d.kinds.check.nat import nat_contention
from fos1d.kinds.check.pins import pin_contention, queue_contention
from fos1d.kinds.check.policies import policy_sizes
from fos1d.kinds.check.references import Scope, references
from fos1d.kinds.declaration import Declaration
from fos1d.model.diagnostic import Diagnostic
from fos1d.model.identity import ResourceId

__all__ = ["check"]

MOST_HINTS = 100
MOST_FINDINGS = 100


def check(
    declarations: Sequence[Declaration],
    files: Collection[str],
    invalid: Iterable[ResourceId] = (),
    complete: bool = True,
) -> list[Diagnostic]:
    """Return what is wrong or odd among the declarations, in the order of the source.

    `files` are the paths of the snapshot. `invalid` are resources that are declared, but not
    validly: a reference to one leads somewhere. `complete` is false where documents could not be
    told which resource they are.
    """
    ordered = sorted(declarations, key=lambda declaration: declaration.origin)
    found = [*duplicates(ordered)]
    unique = list({d.id: d for d in reversed(ordered)}.values())[::-1]
    scope = Scope.of(unique, files, invalid)
    found += _hinted(references(unique, scope), complete)
    ranked = sorted(unique, key=rank)
    found += pin_contention(ranked)
    found += queue_contention(ranked)
    found += nat_contention(ranked)
    found += policy_sizes(ranked)
    return place(_capped(found))


def _capped(found: Iterable[Found]) -> Iterator[Found]:
    """Keep the first hundred findings of each declaration."""
    counts: Counter[ResourceId] = Counter()
    for item in found:
        count = counts[item.declaration.id] = counts[item.declaration.id] + 1
        if count <= MOST_FINDINGS:
            yield item
        elif count == MOST_FINDINGS + 1:
            yield Found(
                item.declaration, (), "has more findings, which are not shown", item.severity
            )


def _hinted(found: Iterable[Found], complete: bool) -> Iterator[Found]:
    hints = 0
    for item in found:
        if item.hint is None:
            yield item
            continue
        hints += 1
        hint = item.hint() if hints <= MOST_HINTS else ""
        unread = "" if complete else " (it may be in one of the documents that could not be read)"
        yield replace(item, message=item.message + hint + unread)
