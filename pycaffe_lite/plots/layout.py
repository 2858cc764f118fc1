"""The layout of a directed graph in ranks: the rank of each node, the order in each rank, and positions along the rank.

The steps are those of Sugiyama, Tagawa and Toda (1981). Every node gets a rank by its longest path, and a long edge gets a
way-point in each rank that it passes. Barycentres order the ranks so that few edges cross, and a linear program finds the
straightest edges. Lengths are inches.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass

from scipy import sparse
from scipy.optimize import linprog

from ..errors import CaffeError

MAX_WAY_POINTS = 20_000
PLACE_SECONDS = 30
NODE_GAP = 0.22
EDGE_GAP = 0.12


@dataclass
class Layout:
    """Nodes 0..n-1 and way-points from n on, in ranks: `order[r]` lists rank r by `cross`."""

    size: list[float]  # across the edges; 0 for way-points
    rank: list[int]
    order: list[list[int]]
    before: list[list[int]]  # neighbours in the previous rank
    after: list[list[int]]
    cross: list[float]
    nodes: int

    def is_node(self, i: int) -> bool:
        return i < self.nodes


def arrange(count: int, edges: list[tuple[int, int]], breadths: list[float]) -> Layout:
    """Ranks, order and positions of `count` nodes, whose `breadths` are measured across the edges."""
    rank = _ranks(count, edges)
    before, after = _with_way_points(rank, edges)
    size = breadths + [0.0] * (len(rank) - count)
    layout = Layout(size, rank, _first_order(rank, before, after), before, after, [0.0] * len(rank), count)
    _uncross(layout)
    _place(layout)
    return layout


def _ranks(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """The longest path from a source to each node; an input that is used late is placed just before its use."""
    inputs: list[list[int]] = [[] for _ in range(count)]
    outputs: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        outputs[a].append(b)
        inputs[b].append(a)
    missing = [len(i) for i in inputs]
    topological = [i for i in range(count) if not missing[i]]
    for i in topological:  # the list grows in the loop
        for j in outputs[i]:
            missing[j] -= 1
            if not missing[j]:
                topological.append(j)
    rank = [0] * count
    floats = [False] * count
    for i in topological:
        rank[i] = 1 + max((rank[j] for j in inputs[i]), default=-1)
        floats[i] = all(floats[j] and len(outputs[j]) == 1 for j in inputs[i])
    for i in reversed(topological):
        if floats[i] and outputs[i]:
            rank[i] = min(rank[j] for j in outputs[i]) - 1
    return rank


def _with_way_points(rank: list[int], edges: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Adds a way-point in each rank that an edge passes; the edges of a node share a chain. Returns neighbours both ways."""
    targets: dict[int, set[int]] = defaultdict(set)
    for a, b in edges:
        targets[a].add(b)
    total = sum(max(rank[b] for b in bs) - rank[a] - 1 for a, bs in targets.items())
    if total > MAX_WAY_POINTS:
        raise CaffeError(f"the net is too tangled to draw: its connections pass {total} other layers and blobs")
    after: list[list[int]] = [[] for _ in range(len(rank) + total)]
    before: list[list[int]] = [[] for _ in range(len(rank) + total)]
    for a, bs in targets.items():
        last, at = a, rank[a]
        for b in sorted(bs, key=lambda b: (rank[b], b)):
            while at < rank[b] - 1:
                at += 1
                rank.append(at)
                _join(last, len(rank) - 1, before, after)
                last = len(rank) - 1
            _join(last, b, before, after)
    return before, after


def _join(a: int, b: int, before: list[list[int]], after: list[list[int]]) -> None:
    after[a].append(b)
    before[b].append(a)


def _first_order(rank: list[int], before: list[list[int]], after: list[list[int]]) -> list[list[int]]:
    """Depth first from the sources, so that connected nodes are near each other."""
    order: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    visited = [False] * len(rank)
    stack = [i for i in reversed(range(len(rank))) if not before[i]]
    while stack:
        i = stack.pop()
        if not visited[i]:
            visited[i] = True
            order[rank[i]].append(i)
            stack.extend(reversed(after[i]))
    return order


def _uncross(layout: Layout, rounds: int = 8) -> None:
    """Sorts each rank by the mean position of the neighbours, forwards and backwards, and keeps the best order."""
    best, fewest = [list(r) for r in layout.order], _crossings(layout)
    for turn in range(2 * rounds):
        if not fewest:
            break
        forwards = turn % 2 == 0
        neighbours = layout.before if forwards else layout.after
        ranks = range(1, len(layout.order)) if forwards else range(len(layout.order) - 2, -1, -1)
        for r in ranks:
            _sort_rank(layout.order[r], layout.order[r - 1 if forwards else r + 1], neighbours)
        crossings = _crossings(layout)
        if crossings < fewest:
            best, fewest = [list(r) for r in layout.order], crossings
    layout.order = best


def _sort_rank(members: list[int], fixed: list[int], neighbours: list[list[int]]) -> None:
    position = {i: p for p, i in enumerate(fixed)}
    scale = len(fixed) / max(len(members), 1)
    own = {i: p * scale for p, i in enumerate(members)}
    members.sort(key=lambda i: _mean([position[j] for j in neighbours[i]], own[i]))


def _crossings(layout: Layout) -> int:
    position = [0] * len(layout.rank)
    for members in layout.order:
        for p, i in enumerate(members):
            position[i] = p
    total = 0
    for members in layout.order:
        ends: list[int] = []
        for i in members:
            mine = sorted(position[j] for j in layout.after[i])
            total += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
    return total


def _place(layout: Layout) -> None:
    """Cross positions that minimise the weighted sideways steps, and keep order and distance in each rank.

    A sum of absolute values makes most edges straight and lets a few bend, as in Gansner, Koutsofios, North and Vo (1993).
    Long edges are kept straight first, then chains; a fork is in the middle of its branches.
    """
    steps, costs = _steps(layout)
    neighbours = [(i, j) for members in layout.order for i, j in itertools.pairwise(members)]
    n, m = len(layout.rank), len(steps)
    if not neighbours or not steps:
        return
    step, slack = _matrix(steps, n), sparse.identity(m)
    spacing = _matrix([{i: 1.0, j: -1.0} for i, j in neighbours], n)
    no_slack = sparse.csr_matrix((len(neighbours), m))
    limits = sparse.bmat([[step, -slack], [-step, -slack], [spacing, no_slack]], format="csr")
    bounds = [0.0] * (2 * m) + [-_distance(layout, i, j) for i, j in neighbours]
    options = {"time_limit": PLACE_SECONDS}
    solution = linprog([0.0] * n + costs, limits, bounds, bounds=(None, None), method="highs", options=options)
    if solution.x is None:
        raise CaffeError(f"the net is too tangled to draw: no layout of its {m} connections within {PLACE_SECONDS} s")
    layout.cross = [float(x) for x in solution.x[:n]]


def _steps(layout: Layout) -> tuple[list[dict[int, float]], list[float]]:
    """Sums that should be zero, as {node: factor}, and the cost of their size: sideways steps of edges, distances of forks
    from the middle of their branches, and a little for every node, so that the picture does not drift sideways."""
    steps: list[dict[int, float]] = []
    costs = []
    for i, js in enumerate(layout.after):
        for j in js:
            steps.append({i: 1.0, j: -1.0})
            costs.append(_weight(layout, i, j))
    for side in (layout.before, layout.after):
        for i, js in enumerate(side):
            if len(js) > 1 and all(map(layout.is_node, [i, *js])):
                steps.append({i: 1.0, **dict.fromkeys(js, -1 / len(js))})
                costs.append(2.0)
    for i in range(layout.nodes):
        steps.append({i: 1.0})
        costs.append(0.02)
    return steps, costs


def _weight(layout: Layout, i: int, j: int) -> float:
    """The cost of an inch of sideways step. An edge may bend next to a node, but not on its way."""
    ends = layout.is_node(i) + layout.is_node(j)
    chain = len(layout.after[i]) == len(layout.before[j]) == 1
    return [8.0, 0.5, 3.0 if chain else 1.0][ends]


def _distance(layout: Layout, i: int, j: int) -> float:
    """The least distance between the centres of two neighbours in a rank."""
    gap = NODE_GAP if layout.is_node(i) or layout.is_node(j) else EDGE_GAP
    return (layout.size[i] + layout.size[j]) / 2 + gap


def _matrix(rows: list[dict[int, float]], columns: int) -> sparse.csr_matrix:
    values = [value for row in rows for value in row.values()]
    where = ([r for r, row in enumerate(rows) for _ in row], [c for row in rows for c in row])
    return sparse.csr_matrix((values, where), shape=(len(rows), columns))


def _mean(values: list[float] | list[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
