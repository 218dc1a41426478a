"""Codes of areas and cells, and the numbering of cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.code import CodeError, cell_code, check_code, number_cells, parent_code, parent_level
from grid.model import Level


@pytest.mark.parametrize(
    ("level", "code"),
    [
        (Level.DISTRICT, "330105"),
        (Level.STREET, "330105012"),
        (Level.COMMUNITY, "330105012001"),
        (Level.GRID, "330105012001G01"),
        (Level.GRID, "33010501200101"),
        (Level.CELL, "330105012001001"),
    ],
)
def test_codes_by_the_rules_are_taken(level: Level, code: str) -> None:
    check_code(level, code)


@pytest.mark.parametrize(
    ("level", "code"),
    [
        (Level.DISTRICT, "33010"),
        (Level.DISTRICT, "33010a"),
        (Level.STREET, "330105"),
        (Level.COMMUNITY, "33010501200１"),  # a full-width digit
        (Level.GRID, "330105012001"),
        (Level.GRID, "330105012001g01"),
        (Level.CELL, "33010501200101"),
        (Level.CELL, "3301050120010001"),
        (Level.CELL, "330105012001000"),
        (Level.CELL, "33010501200100 "),
        (Level.FEATURE, "330105"),
    ],
)
def test_other_codes_are_refused(level: Level, code: str) -> None:
    with pytest.raises(CodeError):
        check_code(level, code)


@pytest.mark.parametrize(("digits", "code"), [(14, "33010501200107"), (16, "3301050120010007")])
def test_a_city_may_have_14_or_16_digits(digits: int, code: str) -> None:
    check_code(Level.CELL, code, cell_code_digits=digits)
    assert cell_code("330105012001", 7, cell_code_digits=digits) == code
    with pytest.raises(CodeError, match=f"{digits} digits"):
        check_code(Level.CELL, "330105012001007", cell_code_digits=digits)


def test_a_cell_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CodeError):
        cell_code("330105012001", 1000)
    with pytest.raises(CodeError):
        cell_code("330105012001", 0)


def test_what_lies_above_is_told_by_the_code() -> None:
    assert parent_code(Level.CELL, "330105012001001") == "330105012001"
    assert parent_code(Level.GRID, "330105012001G01") == "330105012001"
    assert parent_code(Level.COMMUNITY, "330105012001") == "330105012"
    assert parent_code(Level.STREET, "330105012") == "330105"
    assert parent_code(Level.DISTRICT, "330105") is None
    assert parent_level(Level.CELL) is Level.COMMUNITY


def test_cells_are_numbered_west_to_east_then_north_to_south() -> None:
    raster = np.array([[x, y] for y in (250.0, 150.0, 50.0) for x in (50.0, 150.0, 250.0)])
    assert number_cells(raster).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert number_cells(raster[::-1]).tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1]


@settings(deadline=None)  # the machine may be busy
@given(
    shifts=st.lists(st.tuples(st.floats(-24, 24), st.floats(-24, 24)), min_size=30, max_size=30),
    order=st.permutations(range(30)),
)
def test_uneven_cells_keep_the_order_of_their_rows(shifts: list[tuple[float, float]], order: list[int]) -> None:
    even = np.array([[100.0 * column, -100.0 * row] for row in range(5) for column in range(6)])
    numbers = number_cells((even + np.array(shifts))[order])
    assert [int(number) for number in numbers] == [index + 1 for index in order]


@settings(deadline=None)  # the machine may be busy
@given(points=st.lists(st.tuples(st.floats(-2_000, 2_000), st.floats(-2_000, 2_000)), max_size=60))
def test_every_cell_gets_one_number_of_its_own(points: list[tuple[float, float]]) -> None:
    numbers = number_cells(np.array(points, dtype=np.float64).reshape(-1, 2))
    assert sorted(numbers.tolist()) == list(range(1, len(points) + 1))
