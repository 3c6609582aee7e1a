"""How many rows at a time: fewer where they are large."""

import math

LARGE_ROW = 8192
SUMMARY_ROWS, LEAST_SUMMARY_ROWS = 2000, 500


def fewer(n_rows: int, row_shape, least: int) -> int:
    """Return how many rows take what ``n_rows`` of 8,192 values would.

    Smaller rows count as such, and at least ``least`` are taken (``n_rows`` if that is
    less). So neither time nor memory grows in proportion to the length of windows.
    """
    values = max(math.prod(row_shape), LARGE_ROW)
    return max(min(least, n_rows), n_rows * LARGE_ROW // values)


def summary_rows(row_shape) -> int:
    """Return how many rows say what the stem and the axes of z are fitted to."""
    return fewer(SUMMARY_ROWS, row_shape, LEAST_SUMMARY_ROWS)
