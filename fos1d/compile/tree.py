"""Static B+ trees in arrays: the rank of a value among sorted keys, one cache line a level.

A node above the leaves holds the lowest keys of its children but the first; the children of a
level's node number `n` are the nodes `n * fanout` and on of the next level. Spare keys are all
ones. Keys of several words are columns, the highest word first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Nodes = npt.NDArray[np.void]


def level_bases(keys: int, width: int) -> tuple[int, ...]:
    """Return the index of each level's first node, the root's level first.

    A node has `width` keys and one child more. Without keys there is one empty leaf.
    """
    sizes = [max(1, -(-keys // width))]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // (width + 1)))
    return tuple(sum(sizes[::-1][:level]) for level in range(len(sizes)))


def build_tree(columns: Mapping[str, Column], node: np.dtype[np.void]) -> Nodes:
    """Return the nodes whose leaves hold the sorted keys, given as the columns of a node."""
    columns = dict(columns)
    count, width = len(next(iter(columns.values()))), _width(node)
    bases = level_bases(count, width)
    nodes = np.empty(bases[-1] + max(1, -(-count // width)), node)
    end, stride = len(nodes), width
    for base in reversed(bases):
        for name, column in columns.items():
            _fill(nodes[base:end][name], column, stride)
        columns = {name: column[::stride] for name, column in columns.items()}
        end, stride = base, width + 1
    return nodes


def _width(node: np.dtype[np.void]) -> int:
    assert node.names is not None
    return int(node[node.names[0]].shape[0])


def _fill(keys: Column, column: Column, stride: int) -> None:
    """Write a column into rows of keys; of `stride` numbers a row, the first may have no place."""
    width = keys.shape[1]
    full, spare = divmod(len(column), stride)
    keys[:full] = column[: full * stride].reshape(full, stride)[:, -width:]
    if full < len(keys):
        ones = np.full(stride - spare, np.iinfo(keys.dtype).max, keys.dtype)
        keys[full] = np.append(column[full * stride :], ones)[-width:]
