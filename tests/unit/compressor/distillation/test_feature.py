"""What layers give out is told apart by its shape, and laid one over the other."""

import pytest
import torch

from compressor.distillation.feature import Feature, Kind, Pair


@pytest.mark.parametrize(
    ("shape", "image", "kind", "channels", "places"),
    [
        ((10,), (32, 32), Kind.VECTOR, 10, (1, 1)),
        ((197, 192), (224, 224), Kind.TOKENS, 192, (14, 14)),
        ((205, 192), (224, 224), Kind.TOKENS, 192, (14, 14)),
        ((65, 64), (32, 128), Kind.TOKENS, 64, (4, 16)),
        ((32, 64), (64, 128), Kind.TOKENS, 64, (4, 8)),
        ((64, 8, 8), (32, 32), Kind.MAP, 64, (8, 8)),
        ((8, 8, 8), (32, 32), Kind.MAP, 8, (8, 8)),
        ((512, 1, 1), (32, 32), Kind.MAP, 512, (1, 1)),
        ((64, 4, 8), (32, 64), Kind.MAP, 64, (4, 8)),
        ((14, 14, 384), (224, 224), Kind.MAP_CHANNELS_LAST, 384, (14, 14)),
    ],
)
def test_a_shape_tells_what_it_is(
    shape: tuple[int, ...], image: tuple[int, int], kind: Kind, channels: int, places: tuple[int, int]
) -> None:
    # Given what a layer gives out for one image / When it is looked at / Then channels and places are told apart
    feature = Feature("layer", shape, image)
    assert (feature.kind, feature.channels, feature.places) == (kind, channels, places)
    found = feature.as_map(torch.zeros(2, *shape))
    assert found.shape == (2, channels, *places)


def test_patches_lie_in_rows_behind_the_class_token() -> None:
    # Given a class token and patches that are numbered row by row
    tokens = torch.cat((torch.tensor([-1.0]), torch.arange(6.0)))[None, :, None]
    # When they are laid out as a map of an image twice as high as it is wide... / Then rows come one below the other
    assert Feature("block", (7, 1), (48, 32)).as_map(tokens)[0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_maps_are_averaged_to_the_smaller_size() -> None:
    # Given maps of 4 by 4 and of 2 by 2
    pair = Pair(Feature("a", (1, 4, 4), (8, 8)), Feature("b", (3, 2, 2), (8, 8)))
    large, small = torch.arange(16.0).view(1, 1, 4, 4), torch.rand(1, 3, 2, 2)
    # When they are laid one over the other / Then the larger one is averaged, and the smaller one as it was
    learnt, told = pair.students_map(large), pair.teachers_map(small)
    assert learnt[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(told, small)
    assert pair.places == 4


def test_as_many_tokens_stand_for_the_same_class_token_among_them() -> None:
    # Given tokens of both networks, as many / When they are laid one over the other / Then none is left out
    pair = Pair(Feature("a", (5, 3), (8, 8)), Feature("b", (5, 7), (8, 8)))
    student, teacher = torch.rand(2, 5, 3), torch.rand(2, 5, 7)
    learnt, told = pair.students_map(student), pair.teachers_map(teacher)
    assert (learnt.shape, told.shape, pair.places) == ((2, 3, 5, 1), (2, 7, 5, 1), 5)
    assert torch.equal(learnt[:, :, :, 0], student.transpose(1, 2))


def test_tokens_meet_maps_as_the_grid_of_their_patches() -> None:
    # Given a transformer's tokens and a convolution's map / When they are laid one over the other
    pair = Pair(Feature("a", (17, 3), (32, 32)), Feature("b", (6, 8, 8), (32, 32)))
    learnt, told = pair.students_map(torch.rand(2, 17, 3)), pair.teachers_map(torch.rand(2, 6, 8, 8))
    # Then both have the grid of the patches
    assert (learnt.shape, told.shape) == ((2, 3, 4, 4), (2, 6, 4, 4))


def test_a_vector_is_the_mean_over_places_or_tokens() -> None:
    tokens, maps = torch.rand(2, 5, 3), torch.rand(2, 3, 4, 4)
    assert torch.equal(Feature("a", (5, 3), (8, 8)).as_vector(tokens), tokens.mean(1))
    assert torch.equal(Feature("b", (3, 4, 4), (8, 8)).as_vector(maps), maps.mean((2, 3)))
