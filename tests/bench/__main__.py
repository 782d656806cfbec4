"""Run benchmarks: `python -m tests.bench [--quick] [NAME...]`; `--list` says which there are."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests import lab
from tests.bench import (
    bandwidth,
    control,
    drop,
    legit,
    nat,
    nat_ends,
    netset,
    policy,
    rules_load,
    workload,
)
from tests.bench.results import Table, bars_drawn, keep, printed

BENCHMARKS: dict[str, Callable[[bool], Table]] = {
    "drop": drop.drop4,
    "drop6": drop.drop6,
    "unlisted": drop.unlisted,
    "legitimate": legit.legitimate,
    "policy": policy.policy,
    "policy6": policy.policy6,
    "growth": policy.growth,
    "nat": nat.nat,
    "nat_in": nat.nat_in,
    "nat_new": nat.nat_new,
    "nat_ends": nat_ends.nat_ends,
    "workload": workload.workload,
    "rules": rules_load.rules_load,
    "bandwidth": bandwidth.bandwidth,
    "netset": netset.netset,
    "passes": control.passes,
    "parsing": control.parsing,
    "pushes": control.pushes,
    "idle": control.idle,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 if a bar does not hold, 2 if nothing can be measured."""
    asked = _arguments(words)
    if asked.list:
        print("\n".join(BENCHMARKS))
        return 0
    if not lab.is_root():
        print("make bench needs root: it makes network namespaces and loads programs")
        return 2
    tables = [_measured(name, asked.quick) for name in asked.names or BENCHMARKS]
    print("\n\n".join(f"{printed(table)}\n\n{bars_drawn(table)}" for table in tables))
    return _summed_up(tables)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small lists: a look")
    parser.add_argument("--list", action="store_true", help="say which benchmarks there are")
    parser.add_argument("names", nargs="*", metavar="NAME", help="run only these")
    asked = parser.parse_args(words)
    if unknown := sorted(set(asked.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark {unknown[0]}: there are {', '.join(BENCHMARKS)}")
    return asked


def _measured(name: str, quick: bool) -> Table:
    """Run one benchmark and keep its figures at once, whatever becomes of the others."""
    print(f"{name} ...", end="", file=sys.stderr, flush=True)
    began = time.monotonic()
    table = BENCHMARKS[name](quick)
    keep(table, quick)
    print(f" {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return table


def _summed_up(tables: Sequence[Table]) -> int:
    bars = [bar for table in tables for bar in table.bars]
    missed = [bar for bar in bars if not bar.holds]
    print(f"\n{len(bars) - len(missed)} of {len(bars)} bars hold", *missed, sep="\n   ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
