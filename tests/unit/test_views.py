"""Views and their lower median."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.codec.views import VIEWS, LowerMedian, turn, turn_back

SIDES = st.integers(1, 9)
VALUES = st.floats(0, 1, width=32, allow_subnormal=False)


def numbered(height: int, width: int) -> torch.Tensor:
    """Returns `2 3 h w` in which no two elements are alike."""
    return torch.arange(2 * 3 * height * width).reshape(2, 3, height, width)


@given(height=SIDES, width=SIDES, view=st.sampled_from(VIEWS))
def test_turn_back_undoes_turn(height: int, width: int, view: tuple[bool, int]) -> None:
    x = numbered(height, width)
    assert torch.equal(turn_back(turn(x, *view), *view), x)


def test_views_are_the_eight_symmetries() -> None:
    seen = {tuple(turn(numbered(5, 5), *view).flatten().tolist()) for view in VIEWS}
    assert len(seen) == 8
    assert VIEWS[0] == (False, 0)


def test_first_four_views_keep_the_format() -> None:
    assert [turn(numbered(2, 3), *view).shape[2] for view in VIEWS] == [2] * 4 + [3] * 4


@given(
    rows=st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=8),
    spare=st.integers(0, 3),
)
def test_lower_median_is_torch_median_at_any_time(rows: list[list[float]], spare: int) -> None:
    median = LowerMedian(len(rows) + spare)
    tensors = [torch.tensor(row).reshape(1, 2, 3, 1) for row in rows]
    for n, x in enumerate(tensors, start=1):
        median.add(x)
        assert torch.equal(median.value, torch.stack(tensors[:n]).median(dim=0).values)


def test_lower_median_of_eight_is_the_fourth() -> None:
    median = LowerMedian(8)
    for value in (7.0, 2.0, 5.0, 1.0, 8.0, 3.0, 6.0, 4.0):
        median.add(torch.tensor([value]))
    assert median.value.item() == 4.0


def test_lower_median_leaves_its_inputs() -> None:
    median, tensors = LowerMedian(3), [torch.tensor([v]) for v in (3.0, 1.0, 2.0)]
    for x in tensors:
        median.add(x)
    assert [x.item() for x in tensors] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "settled"),
    [
        ([0.5], False),
        ([0.5, 0.505], True),
        ([0.5, 0.52], False),
        ([0.5, 0.505, 0.505], False),
        ([0.1, 0.5, 0.505, 0.9], True),
        ([0.1, 0.5, 0.52, 0.9], False),
        ([0.1, 0.2, 0.5, 0.505, 0.8, 0.9], True),
        ([0.5] * 8, False),
    ],
    ids=str,
)
def test_a_median_is_settled_by_its_two_middle_values(values: list[float], settled: bool) -> None:
    median = LowerMedian(8)
    for value in values:
        median.add(torch.full((1, 4, 2, 2), value))
    assert median.settled() is settled


def test_a_median_is_settled_where_nearly_all_values_are() -> None:
    median, other = LowerMedian(8), torch.zeros(2000)
    median.add(torch.zeros(2000))
    other[:2] = 1
    median.add(other)
    assert median.settled()
    median = LowerMedian(8)
    median.add(torch.zeros(2000))
    other[:3] = 1
    median.add(other)
    assert not median.settled()
