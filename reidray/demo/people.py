"""Generate the people of the demo set: annotated attributes and individual traits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reidray.data.attribute_schema import MULTICOLOUR, PEDESTRIAN_SCHEMA
from reidray.demo.colours import PALETTE, Colour, sample_bright_colours, tint, vary

Frequencies = Mapping[str, float]

_VALUES = {attribute.name: attribute.values for attribute in PEDESTRIAN_SCHEMA.attributes}
_UPPER, _LOWER = _VALUES["upper_colour"], _VALUES["lower_colour"]

_FREQUENCIES: Mapping[str, Frequencies] = {
    "gender": {"male": 0.57, "female": 0.43},
    "sleeve": {"long": 0.15, "short": 0.85},
    "lower_length": {"long": 0.35, "short": 0.65},
    "hat": {"no": 0.88, "yes": 0.12},
    "backpack": {"no": 0.72, "yes": 0.28},
    "bag": {"no": 0.78, "yes": 0.22},
    "handbag": {"no": 0.86, "yes": 0.14},
    "age": {"young": 0.07, "teenager": 0.6, "adult": 0.22, "old": 0.11},
    "upper_colour": dict(zip(_UPPER, (20, 26, 12, 5, 7, 10, 8, 7, 5), strict=True)),
    "lower_colour": dict(zip(_LOWER, (36, 7, 5, 4, 4, 12, 16, 4, 8, 4), strict=True)),
}
_FREQUENCIES_BY_GENDER: Mapping[str, Mapping[str, Frequencies]] = {
    "hair": {"male": {"short": 0.9, "long": 0.1}, "female": {"short": 0.12, "long": 0.88}},
    "lower_type": {
        "male": {"dress": 0.0, "trousers": 1.0},
        "female": {"dress": 0.45, "trousers": 0.55},
    },
}

_SKIN: tuple[Colour, ...] = ((238, 198, 166), (222, 174, 138), (198, 146, 108), (146, 98, 70))
_HAIR: tuple[Colour, ...] = ((34, 26, 26), (66, 42, 28), (104, 64, 36))
_GREY_HAIR: Colour = (206, 207, 212)
_SHOES: tuple[Colour, ...] = ((36, 34, 36), (92, 58, 40), (118, 118, 122))
_HAT: Colour = (222, 84, 40)
_BACKPACK: Colour = (38, 206, 214)
_BAG: Colour = (166, 206, 46)
_HANDBAG: Colour = (222, 22, 122)

PATTERNS = ("plain", "band", "badge")
HATS = ("cap", "beanie", "brim")


@dataclass(frozen=True)
class Build:
    """Hold the proportions of a body, as shares of its height. Widths are half widths.

    Attributes:
        height: the height of the person, as a share of that of a tall adult.
        head: the height of the head.
        legs: the length of the legs.
        shoulders: the width of the shoulders.
        waist: the width of the waist.
        hips: the width of the hips.
        depth: the width of the trunk from the side.
        stoop: the distance by which the head is forward and down.
    """

    height: float
    head: float
    legs: float
    shoulders: float
    waist: float
    hips: float
    depth: float
    stoop: float


@dataclass(frozen=True)
class Person:
    """Hold a person to draw: the annotated attributes and the individual look.

    Attributes:
        attributes: the label of each attribute of `PEDESTRIAN_SCHEMA`.
        build: the proportions of the body.
        skin: the colour of the skin.
        hair: the colour of the hair.
        upper: the colours of the upper garment; more than one are stripes.
        lower: the colours of the lower garment; more than one are stripes.
        shoes: the colour of the shoes.
        pattern: one of `PATTERNS`, on chest and back.
        pattern_colour: the colour of the pattern.
        hat: one of `HATS`, for people with a hat.
        hat_colour: the colour of the hat.
        backpack_colour: the colour of the backpack.
        bag_colour: the colour of the bag.
        handbag_colour: the colour of the handbag.
        bags_on_right: whether the person carries bags on the right side.
        walking_stick: whether the person has a walking stick.
    """

    attributes: Mapping[str, int]
    build: Build
    skin: Colour
    hair: Colour
    upper: tuple[Colour, ...]
    lower: tuple[Colour, ...]
    shoes: Colour
    pattern: str
    pattern_colour: Colour
    hat: str
    hat_colour: Colour
    backpack_colour: Colour
    bag_colour: Colour
    handbag_colour: Colour
    bags_on_right: bool
    walking_stick: bool

    def value(self, name: str) -> str:
        """Return the value of an attribute, such as `short` of `sleeve`."""
        return _VALUES[name][self.attributes[name]]


def generate_people(rng: np.random.Generator, count: int) -> list[Person]:
    """Generate people; the share of each attribute value is its frequency, to within one person."""
    genders = _assign_values(rng, _FREQUENCIES["gender"], count)
    assigned: dict[str, list[str]] = {"gender": genders}
    for name, frequencies in _FREQUENCIES.items():
        if name != "gender":
            assigned[name] = _assign_values(rng, frequencies, count)
    for name, by_gender in _FREQUENCIES_BY_GENDER.items():
        remaining = {
            gender: _assign_values(rng, frequencies, genders.count(gender))
            for gender, frequencies in by_gender.items()
        }
        assigned[name] = [remaining[gender].pop() for gender in genders]
    return [
        _generate_person(rng, {name: assigned[name][i] for name in PEDESTRIAN_SCHEMA.names})
        for i in range(count)
    ]


def _assign_values(rng: np.random.Generator, frequencies: Frequencies, count: int) -> list[str]:
    """Return one value for each of `count` people, in random order and in exact proportions."""
    bounds = np.cumsum(list(frequencies.values()))
    positions = (np.arange(count) + rng.random()) / max(count, 1) * bounds[-1]
    picks = np.searchsorted(bounds[:-1], positions, side="right")
    names: Sequence[str] = list(frequencies)
    return [names[pick] for pick in rng.permutation(picks)]


def _generate_person(rng: np.random.Generator, values: Mapping[str, str]) -> Person:
    upper = _garment(rng, values["upper_colour"])
    lower = _garment(rng, values["lower_colour"])
    old = values["age"] == "old"
    return Person(
        attributes={name: _VALUES[name].index(value) for name, value in values.items()},
        build=_build(rng, values["age"], values["gender"]),
        skin=vary(rng, _SKIN[rng.integers(len(_SKIN))], 6),
        hair=vary(rng, _GREY_HAIR if old else _HAIR[rng.integers(len(_HAIR))], 6),
        upper=upper,
        lower=lower,
        shoes=vary(rng, _SHOES[rng.integers(len(_SHOES))]),
        pattern="plain" if len(upper) > 1 else PATTERNS[rng.integers(len(PATTERNS))],
        pattern_colour=tint(upper[0]),
        hat=HATS[rng.integers(len(HATS))],
        hat_colour=vary(rng, _HAT),
        backpack_colour=vary(rng, _BACKPACK),
        bag_colour=vary(rng, _BAG),
        handbag_colour=vary(rng, _HANDBAG),
        bags_on_right=bool(rng.random() < 0.5),
        walking_stick=old and bool(rng.random() < 0.6),
    )


def _garment(rng: np.random.Generator, colour: str) -> tuple[Colour, ...]:
    return sample_bright_colours(rng, 3) if colour == MULTICOLOUR else (vary(rng, PALETTE[colour]),)


_PROPORTIONS = {  # height, head, legs, breadth
    "young": (0.74, 0.29, 0.35, 1.08),
    "teenager": (0.87, 0.22, 0.46, 0.91),
    "adult": (1.0, 0.15, 0.48, 1.03),
    "old": (0.92, 0.17, 0.44, 1.03),
}


def _build(rng: np.random.Generator, age: str, gender: str) -> Build:
    height, head, legs, breadth = _PROPORTIONS[age]
    breadth *= rng.uniform(0.94, 1.1)
    woman = gender == "female"
    return Build(
        height=height * rng.uniform(0.98, 1.02),
        head=head,
        legs=legs * rng.uniform(0.97, 1.03),
        shoulders=breadth * (0.094 if woman else 0.146),
        waist=breadth * (0.064 if woman else 0.122),
        hips=breadth * (0.108 if woman else 0.104),
        depth=breadth * (0.066 if woman else 0.096),
        stoop=0.09 if age == "old" else 0.0,
    )
