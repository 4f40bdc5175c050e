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
        ("96", [3, 96, 96], 11_689_512, 333_615_104),
        ("96x96", [3, 96, 96], 11_689_512, 333_615_104),
        # Two thirds of 64 * 3 * 49 weights, at each of 48 * 48 positions.
        ("1x96x96", [1, 96, 96], 11_689_512 - 6272, 333_615_104 - 6272 * 48 * 48),
        ("299", [3, 299, 299], 11_689_512, 3_394_636_544),
    ],
)
def test_figures_are_for_the_image_that_is_asked_for(
    http: httpx.Client, given: str, shape: list[int], parameters: int, macs: int
) -> None:
    # Given the size of an image / When an architecture is asked for / Then its figures are for that
    (card,) = found(http, library="torchvision", query="resnet18", input=given)
    assert (card["input"], card["parameters"], card["macs"]) == (shape, parameters, macs)


def test_a_head_for_fewer_classes_costs_less(http: httpx.Client) -> None:
    # Given ten classes in place of a thousand / When an architecture is asked for
    (many,), (few,) = (found(http, library="torchvision", query="resnet18", **one) for one in ({}, {"num_classes": 10}))
    # Then its figures are without 990 rows of 512 weights and a bias, and it says what they are for
    assert many["parameters"] - few["parameters"] == 990 * 513
    assert many["macs"] - few["macs"] == 990 * 512
    assert many["size_bytes"] - few["size_bytes"] == pytest.approx(990 * 513 * 4, abs=2000)
    assert (many["options"], few["options"]) == ({"num_classes": 1000}, {"num_classes": 10})


def test_small_images_are_counted_in_the_network_that_is_fitted_to_them(http: httpx.Client) -> None:
    # Given images of 32 pixels / When figures are asked for with the stem that a job fits, and with the library's own
    (fitted,), (kept,) = (
        found(http, library="torchvision", query="resnet18", input="32", stem=stem) for stem in ("auto", "keep")
    )
    (default,) = found(http, library="torchvision", query="resnet18", input="32")
    # Then the one that is fitted keeps more positions, is what is told unasked, and each says what it is
    assert fitted == default
    assert fitted["macs"] > 10 * kept["macs"] > 10**7
    assert (fitted["parameters"], fitted["size_bytes"]) == (kept["parameters"], kept["size_bytes"])
    assert (fitted["stem"], kept["stem"]) == ("auto", "keep")


def test_of_timm_what_takes_an_image_is_counted_for_it(http: httpx.Client) -> None:
    # Given a convolutional network of timm, and a transformer of one size / When they are asked for with two sizes
    (large, small), (vit, refused) = (
        [found(http, library="timm", query=name, input=given)[0] for given in ("224", "64")]
        for name in ("resnet10t", "vit_tiny_patch16_224")
    )
    # Then the first has figures for both, and the second for its own, and says that it takes no other
    assert large["macs"] > 10 * small["macs"] > 10**8
    assert small["stem"] == "keep"
    assert vit["macs"] == found(http, library="timm", query="vit_tiny_patch16_224")[0]["macs"] > 10**9
    assert (refused["input"], refused["macs"]) == ([3, 64, 64], None)
    assert refused["macs_unknown"] == "It takes images of 224x224; no other size is known to work."
    # And a gray image takes two thirds of the first convolution's 24 * 3 * 9 weights less
    (gray,) = found(http, library="timm", query="resnet10t", input="1x224x224")
    assert large["parameters"] - gray["parameters"] == 24 * 2 * 9
    assert large["macs"] - gray["macs"] == 24 * 2 * 9 * 112**2


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("inception_v4", "64", "It takes images of 75 pixels a side and more."),
        ("resnetaa50", "100", "It takes images whose sides are multiples of 32 pixels."),
        ("vgg16", "96", "It is counted for images of 224 pixels a side and more."),
        ("pvt_v2_b0", "96", "It is counted for images of 224x224 alone."),
    ],
)
def test_why_there_are_no_macs_is_told(http: httpx.Client, name: str, given: str, words: str) -> None:
    # Given a size that a network does not take, or is not counted for / When it is asked for
    card = next(card for card in found(http, library="timm", query=name, input=given) if card["name"] == name)
    # Then it is told with its parameters, and why without its MACs
    assert (card["macs"], card["macs_unknown"]) == (None, words)
    assert card["parameters"] > 10**6


@pytest.mark.parametrize("given", ["0", "5000", "64x4097", "2x64x64"])
def test_what_is_no_image_is_refused(http: httpx.Client, given: str) -> None:
    # Given a size that no image has / When it is asked for
    answer = http.get("/v1/architectures", params={"input": given})
    # Then the answer points at it, and says what there is
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/input")
    assert "1 to 4096 pixels" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sort": "beauty"}, {"max_parameters": -1}, {"max_macs": 0}, {"num_classes": 0}, {"num_classes": 10**6},
        {"input": "64x64x64x64"}, {"input": "-64"}, {"stem": "none"}, {"library": "keras"}, {"limit": 0}, {"colour": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_question_is_pointed_at(http: httpx.Client, wrong: dict[str, Any]) -> None:
    # Given a parameter that is none, or out of its bounds / When it is sent / Then the answer points at it
    answer = http.get("/v1/architectures", params=wrong)
    (name,) = wrong
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/query/{name}")


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
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/after")
