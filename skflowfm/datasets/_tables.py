"""Reading text files of numbers, with errors that name the file."""

from io import BytesIO

import numpy as np
import pandas as pd

GET_AGAIN = "The file is damaged or of another data set: get it again."


def read_numbers(member, n_columns, columns):
    """Read some columns of a file of blank-separated numbers.

    Parameters
    ----------
    member : Member
        The file.
    n_columns : int
        How many columns the format has.
    columns : sequence of int
        Those to read, from 0, rising.

    Returns
    -------
    values : float array of shape (n_rows, len(columns))
        NaN where the file says so, or where a line ends early.

    Raises
    ------
    ValueError
        If the first line has another number of columns, or there is something else
        than numbers.
    """
    data = member.read()
    if not data.strip():
        return np.empty((0, len(columns)))
    n_found = len(data.lstrip().split(b"\n", 1)[0].split())
    if n_found != n_columns:
        raise ValueError(
            f"{member.path} must have {n_columns} columns of numbers, its first line "
            f"has {n_found}. {GET_AGAIN}"
        )
    # Without usecols, a line that is too long is an error.
    some = columns if len(columns) < n_columns else None
    return read_table(
        member, BytesIO(data), sep=r"\s+", header=None, usecols=some, dtype=float
    ).to_numpy()


def read_table(member, stream, **options):
    """Read text with pandas; what it cannot read is a ValueError that names the file.

    Parameters
    ----------
    member : Member
        The file.
    stream : file object
        Its content.
    **options
        Of :func:`pandas.read_csv`.

    Returns
    -------
    table : DataFrame
        The content.
    """
    try:
        return pd.read_csv(stream, **options)
    except ValueError as error:  # among them pandas.errors.ParserError
        raise ValueError(
            f"{member.path} cannot be read: {error}. {GET_AGAIN}"
        ) from error
