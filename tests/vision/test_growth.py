"""What grows is told of again when it is much larger, or severe for the first time."""

from vision.growth import Growth, grow


def test_what_becomes_severe_is_told_even_where_it_grew_little_and_only_once() -> None:
    told = Growth(told=4.8)
    growing, now_told = grow(told, 5.1, 2, 100.0, least=0.5, hold_s=30.0)
    assert not now_told and growing.since_s == 100.0
    assert grow(growing, 4.9, None, 105.0, least=0.5, hold_s=30.0) == (told, False)  # it only looked so
    severe, now_told = grow(growing, 5.1, 2, 111.0, least=0.5, hold_s=30.0)
    assert now_told and severe == Growth(told=5.1, severity=2)
    assert grow(severe, 5.3, 2, 130.0, least=0.5, hold_s=30.0)[1] is False
