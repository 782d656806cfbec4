"""The rules of all policies, compiled: the classifier's tables, remembered from pass to pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fos1d.abi import PlaceFlag
from fos1d.compile.policy import Chain, compile_chains
from fos1d.compile.policy_tables import policy_tables
from fos1d.errors import PolicyLimit
from fos1d.kinds.policy_places import Places
from fos1d.kinds.policy_rules import PolicyRules
from fos1d.model.objects import Table
from fos1d.model.pins import table_path


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Compiled chains and their tables, each with the digest of its content; `version` stands for
    all of them."""

    rules: PolicyRules
    places: Places
    chains: tuple[Chain, ...]
    tables: Mapping[str, Table]
    version: int


@dataclass(slots=True)
class PolicyStore:
    """The newest compiled rules, remembered from pass to pass."""

    newest: Compiled | None = field(default=None, repr=False)


def compiled_rules(rules: PolicyRules, places: Places, store: PolicyStore) -> Compiled:
    """Compile the rules, unless that was done before.

    Raises PolicyLimit.
    """
    known = store.newest
    if known and known.rules.chains == rules.chains and known.places.subjects == places.subjects:
        return replace(known, rules=rules, places=places)
    chains = compile_chains(rules.chains, len(places.subjects))
    store.newest = _with_tables(rules, places, chains)
    return store.newest


def as_far_as_it_goes(limit: PolicyLimit, rules: PolicyRules, places: Places) -> Compiled:
    """Compile the first rules up to the limit; what they do not decide is denied."""
    cut = tuple(chain[: limit.rule] for chain in rules.chains)
    flags = tuple(tuple(map(_closed, place)) for place in rules.flags)
    chains = compile_chains(cut, len(places.subjects))
    return _with_tables(replace(rules, chains=cut, flags=flags), places, chains)


def _closed(flags: int) -> int:
    return flags | PlaceFlag.PLACE_DEFAULT_DENY if flags & PlaceFlag.PLACE_POLICED else flags


def _with_tables(rules: PolicyRules, places: Places, chains: tuple[Chain, ...]) -> Compiled:
    tables = {
        name: _table(name, np.ascontiguousarray(content))
        for name, content in policy_tables(chains).items()
    }
    paths = " ".join(sorted(table.path for table in tables.values()))
    return Compiled(rules, places, chains, tables, int(_digest(paths.encode())[:8], 16) | 1)


def _table(name: str, content: npt.NDArray[Any]) -> Table:
    data = content.data.cast("B")
    digest = _digest(data)
    return Table(table_path(digest, name), content.itemsize, content=_constant(data))


def _constant(data: memoryview) -> Callable[[], memoryview]:
    return lambda: data


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
