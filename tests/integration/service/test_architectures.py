"""The catalogue of architectures over HTTP: filters, order, pages."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.service.conftest import serving

LIMITS = {"max_parameters": 3_000_000, "max_macs": 100_000_000}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API on SQLite: the catalogue is in no database."""
    with serving(tmp_path_factory.mktemp("api")) as api:
        yield api.http


def found(http: httpx.Client, **wanted: object) -> list[dict[str, Any]]:
    answer = http.get("/v1/architectures", params={"limit": 1000, **wanted})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_limits_leave_out_what_costs_more_and_what_is_not_counted(http: httpx.Client) -> None:
    # Given everything, of which some cannot be counted
    everything = found(http, query="vit") + found(http, library="torchvision")
    assert any(card["macs"] is None for card in everything)
    # When limits are set
    cards = found(http, query="vit", **LIMITS) + found(http, library="torchvision", **LIMITS)
    # Then what is told is what keeps to both of them, and is counted
    few, light = LIMITS.values()
    within = [card for card in everything if card["macs"] and card["macs"] <= light and card["parameters"] <= few]
    assert cards == within
    assert {"mobilenet_v3_small", "shufflenet_v2_x0_5"} <= {card["name"] for card in cards}


@pytest.mark.parametrize(
    ("given", "shape", "parameters", "macs"),
    [
        ("64", [3, 64, 64], 11_689_512, 148_557_824),
        ("64x64", [3, 64, 64], 11_689_512, 148_557_824),
        # Two thirds of 64 * 3 * 49 weights, at each of 14 * 14 positions.
        ("1x28x28", [1, 28, 28], 11_689_512 - 6272, 34_747_136 - 6272 * 196),
    ],
)
def test_figures_are_for_the_image_that_is_asked_for(
    http: httpx.Client, given: str, shape: list[int], parameters: int, macs: int
) -> None:
    # Given the size of an image / When an architecture is asked for / Then its figures are for that
    (card,) = found(http, library="torchvision", query="resnet18", input=given)
    assert (card["input"], card["parameters"], card["macs"]) == (shape, parameters, macs)


def test_of_timm_what_takes_an_image_is_counted_for_it(http: httpx.Client) -> None:
    # Given a convolutional network of timm, and a transformer of one size / When they are asked for with two sizes
    (large, small), (vit, refused) = (
        [found(http, library="timm", query=name, input=given)[0] for given in ("224", "64")]
        for name in ("resnet10t", "vit_tiny_patch16_224")
    )
    # Then the first has figures for both, and the second for its own; for gray images there is none of them
    assert large["macs"] > 10 * small["macs"] > 10**8
    assert vit["macs"] == found(http, library="timm", query="vit_tiny_patch16_224")[0]["macs"] > 10**9
    assert (refused["input"], refused["macs"]) == ([3, 64, 64], None)
    assert found(http, library="timm", input="1x224x224") == []


@pytest.mark.parametrize("given", ["50", "64x32", "2x64x64"])
def test_an_image_without_figures_is_refused_with_those_that_have_some(http: httpx.Client, given: str) -> None:
    # Given a size that the catalogue does not know / When it is asked for
    answer = http.get("/v1/architectures", params={"input": given})
    # Then the answer points at it, and says what there is
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/input")
    assert "28, 32, 64, 96, 128, 192, 224" in answer.json()["detail"]


@pytest.mark.parametrize("order", ["name", "-name", "parameters", "-size_bytes", "macs", "-published_accuracy"])
def test_pages_go_through_every_order(http: httpx.Client, order: str) -> None:
    # Given an order / When the list is read page by page
    wanted: dict[str, Any] = {"sort": order, "query": "resnet", "limit": 37}
    pages: list[dict[str, Any]] = []
    while True:
        answer = http.get("/v1/architectures", params=wanted).json()
        pages += answer["data"]
        if not answer["has_more"]:
            break
        wanted["after"] = answer["next_cursor"]
    # Then it is the list that one page has, each architecture once, and in that order; what has no figure comes last
    assert pages == found(http, sort=order, query="resnet")
    assert len(pages) > 100
    assert len({(card["library"], card["name"]) for card in pages}) == len(pages)
    figures = [card[order.removeprefix("-")] for card in pages]
    told = [figure for figure in figures if figure is not None]
    assert told == sorted(told, reverse=order.startswith("-"))
    assert figures[: len(told)] == told


def test_a_cursor_of_another_list_is_refused(http: httpx.Client) -> None:
    # Given a cursor that no page gave / When it is sent / Then the answer points at it
    answer = http.get("/v1/architectures", params={"after": "resnet18"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/after")
