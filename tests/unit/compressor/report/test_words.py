import pytest

from compressor.report.words import (
    in_a_word,
    in_bytes,
    in_change,
    in_milliseconds,
    in_percent,
    in_points,
    in_seconds,
    in_short,
    in_times,
)
from contract.value import Json


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (44_700_412, "44.7 MB"), (999_999, "1 MB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes(size: int, words: str) -> None:
    assert in_bytes(size) == words


@pytest.mark.parametrize(
    ("count", "words"), [(7, "7"), (11_175_370, "11.2 M"), (701_466, "701 k"), (1_814_073_344, "1.81 G")]
)
def test_counts(count: int, words: str) -> None:
    assert in_short(count) == words


def test_fractions() -> None:
    assert in_percent(0.9715) == "97.2 %"
    assert in_points(-0.0037) == "−0.4"
    assert in_points(0.012) == "+1.2"
    assert in_points(-0.0001) == "0.0"
    assert in_change(-0.0171, digits=3) == "−0.017"
    assert in_times(0.0164) == "0.0164×"
    assert in_times(1.001) == "1×"
    assert in_times(2.5) == "2.5×"


def test_times() -> None:
    assert in_milliseconds(0.2117) == "0.212 ms"
    assert in_milliseconds(1500) == "1.5 s"
    assert in_seconds(0.019) == "19 ms"
    assert in_seconds(4.24) == "4.2 s"
    assert in_seconds(192) == "3 min 12 s"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (0.5, "0.5"),
        (3, "3"),
        (None, "none"),
        ([], "none"),
        (["conv1", "fc"], "conv1, fc"),
        ({"name": "resnet18", "options": {"num_classes": 4}}, "name resnet18, options num_classes 4"),
    ],
)
def test_parameters(value: Json, words: str) -> None:
    assert in_a_word(value) == words
