"""What rules count: rows of CPUs and of earlier versions, against sums by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fos1d.abi import RuleRow
from fos1d.compile.rule_stats import A_CPU, RuleStats, no_stats

# By counter: matched and exceeding packets on each CPU.
CPUS = 3
COUNTS = st.dictionaries(
    st.integers(1, 2**64 - 1),
    st.lists(st.integers(0, 2**40), min_size=A_CPU * CPUS, max_size=A_CPU * CPUS),
    max_size=8,
)


def stats_of(counts: Mapping[int, list[int]]) -> RuleStats:
    """Return what rules have counted; a packet has 100 bytes."""
    stats = RuleStats.of(no_stats(list(counts), CPUS), CPUS)
    for rule, packets in enumerate(counts.values()):
        stats.rows["packets"][: A_CPU * CPUS, rule] = packets
        stats.rows["bytes"][: A_CPU * CPUS, rule] = [100 * n for n in packets]
    return stats


@given(st.lists(COUNTS, min_size=1, max_size=4), st.data())
def test_versions_add_up(versions: list[dict[int, list[int]]], data: st.DataObject) -> None:
    """Each version has rules of the one before, others, and counts of its own."""
    stats, expected = stats_of(versions[0]), versions[0]
    for number, fresh in enumerate(versions[1:], 1):
        stay = data.draw(st.sets(st.sampled_from(sorted(expected)))) if expected else set()
        counts = {counter: [number] * A_CPU * CPUS for counter in stay} | fresh
        newer = stats_of(counts)
        written = newer.with_earlier(stats, number)
        newer.elements[len(newer.elements) - len(written) :] = written
        assert newer.last_added == number
        expected = {
            counter: list(np.add(own, expected[counter]) if counter in expected else own)
            for counter, own in counts.items()
        }
        stats = newer
    for row in (RuleRow.ROW_MATCHED, RuleRow.ROW_EXCEEDING):
        total = stats.total(row)
        assert dict(zip(stats.counters.tolist(), total["packets"].tolist(), strict=True)) == {
            counter: sum(map(int, packets[row::A_CPU])) for counter, packets in expected.items()
        }
        assert (total["bytes"] == 100 * total["packets"]).all()


def test_only_what_the_daemon_writes_is_written() -> None:
    """The programs count on meanwhile."""
    stats = stats_of({1: [1] * A_CPU * CPUS, 2: [1] * A_CPU * CPUS})
    assert len(stats.with_earlier(stats, 1)) == (A_CPU + 1) * 2 + 1
