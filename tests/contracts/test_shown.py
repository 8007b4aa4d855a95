"""What a prompt and a notebook show of answers, drawings and predictors: a line, and the drawing."""

import importlib
import pkgutil

import pytest
import torch
from PIL import Image

import vitrail.explain
from vitrail import create_model, predictor
from vitrail.explain.explanation import Drawn
from vitrail.tasks.classify import Classification
from vitrail.tasks.segmented import Segment, Segmented

LINE = 200  # letters that a person reads at a glance


def kinds(base: type) -> list[type]:
    """All that are made of a class."""
    return [kind for made in base.__subclasses__() for kind in (made, *kinds(made))]


def drawings() -> list[type]:
    """Every kind of drawing that vitrail has."""
    for module in pkgutil.iter_modules(vitrail.explain.__path__):
        importlib.import_module(f"vitrail.explain.{module.name}")
    return kinds(Drawn)


@pytest.mark.parametrize("kind", drawings())
def test_a_drawing_is_a_line_at_a_prompt(kind: type) -> None:
    assert kind.__repr__ is Drawn.__repr__


def test_a_notebook_shows_the_drawing() -> None:
    model = create_model("vit-tiny-16", image=32, patch=8, dim=16, heads=2, depth=2, mlp_dim=16, classes=3)
    seen = predictor(model).explain(Image.new("RGB", (40, 30), "red"))
    assert seen._repr_png_().startswith(b"\x89PNG\r\n")
    assert repr(seen) == "<Look: .figure() draws it, .save(path) keeps the drawing, .arrays() has its numbers>"


def test_answers_are_a_line() -> None:
    many = tuple(f"class {number}" for number in range(1000))
    said = Classification(torch.linspace(0, 1, 1000).softmax(0), many)
    assert repr(said).startswith("<Classification: class 999 0.2%, ")
    assert len(repr(said)) < LINE
    parts = Segmented(torch.ones(500, 500, dtype=torch.int64), (Segment(1, 0, 0.9),), ("sky",), (False,))
    assert repr(parts) == "<Segmented: sky>"


def test_a_predictor_says_what_it_is() -> None:
    model = create_model("vit-tiny-16", image=32, patch=8, dim=16, heads=2, depth=2, mlp_dim=16, classes=3)
    assert repr(predictor(model)) == f"<Predictor: {model.card.model} for classify, on cpu>"
