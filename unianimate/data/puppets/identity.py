"""Who a puppet is: proportions of the body, colours, hair, clothes."""

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
PatternKind = Literal["plain", "stripes", "pinstripes", "dots", "checks", "emblem"]
Hair = Literal["short", "crop", "fringe", "bob", "long", "tail", "bun", "curls", "bald"]

_SKIN = np.array(
    [(250, 219, 196), (238, 194, 160), (214, 164, 124), (172, 120, 82), (128, 84, 56), (88, 57, 41)]
)
_HAIR = (
    *((28, 24, 24), (54, 36, 26), (92, 60, 36), (146, 98, 52), (214, 176, 104)),
    *((150, 62, 34), (166, 164, 166)),
)
_IRIS = ((62, 42, 28), (70, 96, 120), (70, 92, 58), (40, 30, 26))
_HAIR_STYLES: tuple[Hair, ...] = (
    *("short", "crop", "fringe", "bob", "long", "tail", "bun", "curls", "bald"),
)
_PATTERNS: tuple[PatternKind, ...] = (
    *("plain", "stripes", "pinstripes", "dots", "checks", "emblem"),
)


@dataclass(frozen=True)
class Proportions:
    """Lengths in heights of the body; girths are half widths."""

    shoulder: float
    hip: float
    torso: float
    neck: float
    head: float
    upper_arm: float
    forearm: float
    hand: float
    thigh: float
    shin: float
    ankle: float
    foot: float
    girth: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Proportions":
        """Draw a person between slight and sturdy, short- and long-limbed."""

        def near(mean: float, spread: float) -> float:
            return mean * float(1 + spread * rng.uniform(-1, 1))

        legs, arms, build = near(1, 0.06), near(1, 0.06), near(1, 0.16)
        return cls(
            shoulder=near(0.113, 0.05) * build**0.6,
            hip=near(0.053, 0.08),
            torso=near(0.285, 0.05),
            neck=near(0.034, 0.15),
            head=near(0.077, 0.07),
            upper_arm=0.168 * arms,
            forearm=0.146 * arms,
            hand=near(0.102, 0.06),
            thigh=0.243 * legs,
            shin=0.232 * legs,
            ankle=0.042,
            foot=near(0.105, 0.08),
            girth=build,
        )


@dataclass(frozen=True)
class Cloth:
    """A cloth: its colour, its pattern, and how often the pattern repeats around the body."""

    colour: Colour
    pattern: PatternKind
    ink: Colour
    repeats: int

    @classmethod
    def sample(cls, rng: np.random.Generator, *, plain: float) -> "Cloth":
        """Draw a cloth; it is plain with this probability, and the ink stands out from it."""
        hue, saturation = rng.uniform(), rng.uniform(0.1, 0.85)
        value = rng.uniform(0.35, 0.95)
        bright = value > 0.62
        other = rng.uniform(0.12, 0.4) if bright else rng.uniform(0.8, 1.0)
        kinds = _PATTERNS[1:]
        kind = _PATTERNS[0] if rng.uniform() < plain else kinds[rng.integers(len(kinds))]
        return cls(
            colour=_hsv(hue, saturation, value),
            pattern=kind,
            ink=_hsv((hue + rng.uniform(0.3, 0.7)) % 1, rng.uniform(0.1, 0.8), other),
            repeats=int(rng.integers(8, 15)),
        )


@dataclass(frozen=True)
class Identity:
    """A person: body, colours, hair, clothes.

    ``sleeve`` and ``leg`` say how much of the arm and of the leg is covered: 0 nothing, 1 down to
    the elbow or knee, 2 down to the wrist or ankle. ``skirt`` is the length of a skirt in heights
    of the body, 0 for none.
    """

    body: Proportions
    skin: Colour
    hair_colour: Colour
    hair: Hair
    iris: Colour
    lips: Colour
    beard: bool
    cap: Colour | None
    top: Cloth
    bottom: Cloth
    sleeve: float
    leg: float
    skirt: float
    shoe: Colour

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Identity":
        """Draw a person."""
        body = Proportions.sample(rng)
        skin = _between(_SKIN, rng.uniform(0, len(_SKIN) - 1))
        hair = _HAIR_STYLES[rng.integers(len(_HAIR_STYLES))]
        hair_colour = _vary(_HAIR[rng.integers(len(_HAIR))], rng, 10)
        top = Cloth.sample(rng, plain=0.12)
        skirted = hair in ("bob", "long", "tail", "bun", "fringe") and rng.uniform() < 0.55
        # a dress is one cloth from the shoulders to the hem
        bottom = top if skirted and rng.uniform() < 0.4 else Cloth.sample(rng, plain=0.6)
        short_hair = hair in ("short", "crop", "curls", "bald")
        return cls(
            body=body,
            skin=skin,
            hair_colour=hair_colour,
            hair=hair,
            iris=_IRIS[rng.integers(len(_IRIS))],
            lips=_mix(skin, (176, 58, 64), rng.uniform(0.35, 0.75)),
            beard=bool(short_hair and rng.uniform() < 0.35),
            cap=_hsv(rng.uniform(), 0.6, 0.7) if short_hair and rng.uniform() < 0.2 else None,
            top=top,
            bottom=bottom,
            sleeve=float(rng.choice([0.0, 0.6, 0.75, 2.0, 2.0])),
            leg=0.0 if skirted else float(rng.choice([0.75, 1.0, 2.0, 2.0, 2.0])),
            skirt=float(rng.uniform(0.17, 0.3)) if skirted else 0.0,
            shoe=_hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.12, 0.95)),
        )


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour times ``factor``, within 0 and 255."""
    red, green, blue = (min(255, max(0, round(part * factor))) for part in colour)
    return red, green, blue


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second))
    return red, green, blue


def _between(table: NDArray[np.int64], at: float) -> Colour:
    low = min(int(at), len(table) - 2)
    first, second = (tuple(int(v) for v in table[i]) for i in (low, low + 1))
    return _mix((first[0], first[1], first[2]), (second[0], second[1], second[2]), at - low)


def _vary(colour: Colour, rng: np.random.Generator, spread: int) -> Colour:
    red, green, blue = (
        int(min(255, max(0, part + rng.integers(-spread, spread + 1)))) for part in colour
    )
    return red, green, blue


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def random_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: tuple[float, float] = (0.0, 1.0),
) -> Colour:
    """Draw a colour with hue, saturation and value within these bounds."""
    return _hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
