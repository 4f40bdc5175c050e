"""What a student is to learn is said by a name, or by terms that are checked one by one."""

import pytest
from pydantic import ValidationError

from contract.methods.distill import Distill, Scaled
from contract.methods.objectives import Dist, Dkd, Kl, Mse


@pytest.mark.parametrize(
    ("params", "term"),
    [
        ({}, Kl(temperature=4.0)),
        ({"temperature": 2.0, "standardize": True}, Kl(temperature=2.0, standardize=True)),
        ({"objective": "mse"}, Mse()),
        ({"objective": "dkd", "temperature": 3.0, "standardize": True}, Dkd(temperature=3.0, standardize=True)),
        ({"objective": "dist", "temperature": 1.0}, Dist(temperature=1.0)),
    ],
)
def test_a_name_stands_for_one_term(params: dict[str, object], term: object) -> None:
    # Given a name / When it is spelt out / Then it is one term with the step's temperature
    found = Distill.model_validate(params)
    assert found.terms == (term,)
    assert (found.looks_inside, found.compares_answers) == (False, True)


@pytest.mark.parametrize(
    ("objectives", "looks_inside", "compares_answers"),
    [(["kl", "dist"], False, True), (["rkd"], True, False), (["attention", "mse"], True, True)],
)
def test_terms_tell_what_they_look_at(objectives: list[str], looks_inside: bool, compares_answers: bool) -> None:
    # Given terms / When they are asked / Then they tell whether logits, features or both are compared
    found = Distill.model_validate({"objective": [{"objective": name} for name in objectives]})
    assert (found.looks_inside, found.compares_answers) == (looks_inside, compares_answers)
    # And the step survives JSON
    assert Distill.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("params", "where", "sentence"),
    [
        ({"objective": "huber"}, ("objective", "name"), "'kl', 'mse', 'dkd' or 'dist'"),
        ({"objective": []}, ("objective", "terms"), "at least one"),
        ({"objective": [{"objective": "huber"}]}, ("objective", "terms", 0), "does not match any"),
        ({"objective": [{"objective": "mse", "weight": 0}]}, ("objective", "terms", 0, "mse", "weight"), "than 0"),
        ({"objective": [{"objective": "mse", "layers": None}]}, ("objective", "terms", 0, "mse", "layers"), "Extra"),
        (
            {"objective": [{"objective": "rkd", "layers": []}]},
            ("objective", "terms", 0, "rkd", "layers"),
            "at least one",
        ),
        ({"objective": [{"objective": "kl"}], "temperature": 2}, (), "temperature and standardize of their own"),
        ({"objective": [{"objective": "kl"}], "standardize": True}, (), "temperature and standardize of their own"),
        ({"objective": "dist", "standardize": True}, (), "standardize belongs to kl and dkd, and objective is dist"),
        ({"objective": "mse", "temperature": 2}, (), "temperature belongs to kl, dkd and dist, and objective is mse"),
        ({"objective": [{"objective": "crd", "negatives": 8}], "mix": "mixup"}, (), "so mix must be none"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(
    params: dict[str, object], where: tuple[object, ...], sentence: str
) -> None:
    # Given params that make no sense / When they are read / Then one fault says so, at its place
    with pytest.raises(ValidationError, match=sentence) as caught:
        Distill.model_validate(params)
    assert [error["loc"] for error in caught.value.errors()] == [where]


@pytest.mark.parametrize(
    ("params", "reads"),
    [
        ({"alpha": 1.0, "held_out": 0.2}, False),
        ({"alpha": 1.0, "held_out": 0.2, "objective": [{"objective": "fitnet"}]}, True),
        ({"alpha": 0.9}, True),
        ({"alpha": 1.0, "compare_without_teacher": True}, True),
    ],
)
def test_labels_are_read_where_something_asks_for_them(params: dict[str, object], reads: bool) -> None:
    # Given a step / When it is asked for what it reads labels / Then it does where no teacher can stand in for them
    assert bool(Distill.model_validate(params).labelled) == reads


@pytest.mark.parametrize("side", ["width", "depth"])
def test_a_copy_of_next_to_nothing_is_refused(side: str) -> None:
    # Given a part so small that nothing is left of it / When it is read / Then the bound is told
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.01"):
        Scaled.model_validate({side: 1e-17})
    assert Scaled.model_validate({side: 0.01})
