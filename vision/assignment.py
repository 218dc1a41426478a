"""The best pairing of rows and columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(gain: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Row and column of every pair, so that the sum of `gain` (rows, columns) is greatest; each row and column once.

    The shortest augmenting paths of Kuhn and Munkres with potentials (Jonker and Volgenant 1987), O(n² m).
    """
    rows, columns = gain.shape
    if not rows or not columns:
        return []
    if rows > columns:
        return [(row, column) for column, row in assign(gain.T)]
    cost = np.zeros((rows + 1, columns + 1))
    cost[1:, 1:] = gain.max() - gain
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    partner = np.zeros(columns + 1, np.int64)
    for row in range(1, rows + 1):
        partner[0] = row
        came_from = np.zeros(columns + 1, np.int64)
        shortest = np.full(columns + 1, np.inf)
        visited = np.zeros(columns + 1, bool)
        column = 0
        while True:
            visited[column] = True
            at = partner[column]
            reduced = cost[at] - row_price[at] - column_price
            better = ~visited & (reduced < shortest)
            better[0] = False
            shortest[better] = reduced[better]
            came_from[better] = column
            open_ones = np.where(visited, np.inf, shortest)
            open_ones[0] = np.inf
            nearest = int(open_ones.argmin())
            step = open_ones[nearest]
            row_price[partner[visited]] += step
            column_price[visited] -= step
            shortest[~visited] -= step
            column = nearest
            if partner[column] == 0:
                break
        while column:
            before = int(came_from[column])
            partner[column] = partner[before]
            column = before
    return [(int(partner[column]) - 1, column - 1) for column in range(1, columns + 1) if partner[column]]
