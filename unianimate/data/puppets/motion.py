"""What a puppet does: smooth curves of joint angles, defined for every moment."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["dance", "walk", "wave", "turn"]

KINDS: tuple[Kind, ...] = ("dance", "walk", "wave", "turn")
_SHARES = (0.4, 0.2, 0.2, 0.2)
LEFT, RIGHT = 0, 1
_KEYS = 12

# swing forwards, lift sideways, elbow, turn of the elbow: -1 bends inwards, 0 forwards, 1 upwards
_ARMS = np.array(
    [
        (0.05, 0.14, 0.25, 0.0),  # hanging
        (-0.25, 0.75, 1.75, -0.75),  # hand on the hip
        (0.1, 1.45, 0.25, 0.6),  # out to the side
        (0.1, 1.40, 1.50, 1.5),  # forearm upright
        (0.15, 2.55, 0.45, -0.6),  # above the head
        (0.3, 1.9, 1.6, 1.2),  # hand at the head
        (0.95, 0.2, 1.2, -0.5),  # before the chest
        (0.5, 0.45, 1.9, 0.1),  # hand at the shoulder
        (0.1, 0.9, 0.3, 0.2),  # half way down
    ]
)
# swing forwards, lift sideways, knee
_LEGS = np.array(
    [
        (0.0, 0.06, 0.08),
        (0.05, 0.26, 0.12),  # astride
        (0.35, 0.12, 0.75),  # bent
        (0.75, 0.12, 1.25),  # knee up
        (-0.25, 0.1, 0.35),  # stepped back
    ]
)


@dataclass(frozen=True)
class Angles:
    """Joint angles in radians and shifts in heights of the body.

    Fields of the trunk are (F,), those of arms and legs (F, 2): left, right.

    Args:
        x: place to the right in the picture.
        hop: height above the ground.
        sway: hips towards the person's left.
        yaw: turn of the hips; positive faces the right side of the picture.
        twist: of the shoulders against the hips.
        lean: forwards. side: towards the person's left.
        turn: of the head against the shoulders. nod: downwards. tilt: sideways.
        swing: upper arm forwards. lift: sideways. elbow: bend. outward: direction of the bend.
        roll: of the forearm. curl: of each finger joint. spread: of the fingers.
        stride: thigh forwards. astride: sideways. knee: bend. point: toes downwards.
    """

    x: Array
    hop: Array
    sway: Array
    yaw: Array
    twist: Array
    lean: Array
    side: Array
    turn: Array
    nod: Array
    tilt: Array
    swing: Array
    lift: Array
    elbow: Array
    outward: Array
    roll: Array
    curl: Array
    spread: Array
    stride: Array
    astride: Array
    knee: Array
    point: Array


@dataclass(frozen=True)
class Motion:
    """Key poses on the beat, joined by a cubic B-spline, and what a kind of motion adds to them.

    The spline has two continuous derivatives and stays between its keys. The keys repeat after
    twelve beats, the additions have periods of their own.

    Args:
        kind: dance, walk, wave or turn.
        keys: angles of the key poses.
        tempo: keys a second.
        rate: cycles a second of the gait, the waving or the bounce.
        phase: of the additions, in radians.
        hand: which hand waves.
        heading: 1 or -1: the direction of a turn or the start of a walk.
        pacing: half the width of the ground walked over, in heights of the body; 0 on the spot.
    """

    kind: Kind
    keys: Angles
    tempo: float
    rate: float
    phase: float
    hand: int
    heading: float
    pacing: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Motion":
        """Draw a motion."""
        kind = KINDS[rng.choice(len(KINDS), p=_SHARES)]
        pacing = float(rng.uniform(0.1, 0.16)) if rng.uniform() < 0.6 else 0.0
        return cls(
            kind=kind,
            keys=_keys(rng, kind),
            tempo=float(rng.uniform(1.3, 2.1)),
            rate=float(rng.uniform(0.8, 1.2) * (1.5 if kind == "wave" else 1)),
            phase=float(rng.uniform(0, 2 * np.pi)),
            hand=int(rng.integers(2)),
            heading=float(rng.choice([-1, 1])),
            pacing=pacing if kind == "walk" else 0.0,
        )

    def at(self, seconds: Array) -> Angles:
        """Return the angles at these moments (F,)."""
        beats = seconds * self.tempo
        base = Angles(**{name: _spline(keys, beats) for name, keys in vars(self.keys).items()})
        cycle = 2 * np.pi * self.rate * seconds + self.phase
        match self.kind:
            case "walk":
                return self._walking(base, seconds, cycle)
            case "wave":
                return self._waving(base, cycle)
            case "turn":
                turning = self.heading * (seconds * (0.9 + 0.5 * self.rate) + self.phase)
                marched = _marching(base, cycle, 0.16)
                return replace(marched, yaw=turning + 0.25 * np.sin(cycle / 2))
        bounce = 0.5 - 0.5 * np.cos(2 * cycle)
        return replace(base, hop=base.hop + 0.012 * bounce)

    def _walking(self, base: Angles, seconds: Array, cycle: Array) -> Angles:
        if not self.pacing:
            return _marching(base, cycle, 0.42)
        # to and fro: the place is a sine, the way walked its length, so that the feet hold
        speed = 0.34 * self.rate
        way = seconds * speed / self.pacing + self.phase
        turns = np.floor(way / np.pi + 0.5)
        walked = self.pacing * (2 * turns + (1 - 2 * (turns % 2)) * np.sin(way))
        pace = np.cos(way)
        gait = _marching(base, 2 * np.pi * walked / 0.52, 0.42 * pace**2 / (pace**2 + 0.25))
        heading = 1.35 * np.tanh(1.6 * pace)
        return replace(
            gait,
            x=self.heading * self.pacing * np.sin(way),
            yaw=self.heading * heading + 0.2 * base.yaw,
        )

    def _waving(self, base: Angles, cycle: Array) -> Angles:
        swung = {name: getattr(base, name).copy() for name in ("swing", "lift", "elbow", "outward")}
        swung["swing"][:, self.hand] = 0.15
        swung["lift"][:, self.hand] = 1.35 + 0.12 * np.sin(cycle)
        swung["elbow"][:, self.hand] = 1.35 + 0.5 * np.sin(cycle)
        swung["outward"][:, self.hand] = 1.5
        open_hand = base.curl.copy()
        open_hand[:, self.hand] = 0.04
        lean = 0.05 * np.sin(cycle / 2)
        return replace(base, **swung, curl=open_hand, side=base.side + lean)


def standing(rng: np.random.Generator) -> Angles:
    """Return a quiet stance from the front (one frame), a little different for everyone."""
    none, sides = np.zeros(1), np.zeros((1, 2))

    def about(mean: float, spread: float) -> Array:
        return mean + spread * rng.uniform(-1, 1, (1, 2))

    return Angles(
        x=none,
        hop=none,
        sway=none,
        yaw=rng.uniform(-0.12, 0.12, 1),
        twist=none,
        lean=none + 0.02,
        side=none,
        turn=rng.uniform(-0.1, 0.1, 1),
        nod=none,
        tilt=rng.uniform(-0.05, 0.05, 1),
        swing=about(0.05, 0.05),
        lift=about(0.26, 0.1),
        elbow=about(0.3, 0.15),
        outward=about(0.0, 0.3),
        roll=about(0.4, 0.2),
        curl=about(0.18, 0.08),
        spread=sides + 1,
        stride=sides,
        astride=about(0.1, 0.04),
        knee=sides + 0.05,
        point=sides,
    )


def _marching(base: Angles, cycle: Array, reach: float | Array) -> Angles:
    """Add steps: opposite arm and leg swing together, the knee bends as the leg comes forward."""
    opposite = np.stack([np.sin(cycle), -np.sin(cycle)], axis=-1)
    coming = np.stack([np.cos(cycle), -np.cos(cycle)], axis=-1)
    reach = np.broadcast_to(np.asarray(reach), cycle.shape)[:, None]
    lifted = 0.5 + 0.5 * np.tanh(1.6 * (coming - 0.1))
    return replace(
        base,
        stride=reach * (1.05 * opposite + 0.35 * lifted),
        knee=0.08 + reach * 2.1 * lifted,
        point=0.5 * reach * (lifted - opposite),
        swing=base.swing - 0.95 * reach * opposite,
        elbow=base.elbow + 0.3 * reach * (1 - opposite),
        twist=base.twist - 0.18 * reach[:, 0] * np.sin(cycle),
        sway=base.sway - 0.03 * reach[:, 0] * np.cos(cycle),
    )


def _keys(rng: np.random.Generator, kind: Kind) -> Angles:
    """Draw key poses: lively for a dance, calm under the other motions."""
    dance = kind == "dance"
    calm = 1.0 if dance else 0.35

    def trunk(spread: float) -> Array:
        return rng.uniform(-spread, spread, _KEYS)

    arms = _choices(rng, _ARMS, 1.0 if dance else 0.25 if kind == "turn" else 0.0)
    legs = _choices(rng, _LEGS, 0.8 if dance else 0.0)
    one_leg_at_a_time = np.minimum(legs[:, ::-1, 0], 0.3) - 0.3
    legs[..., 0] += one_leg_at_a_time * (legs[..., 0] > 0.5)
    facing = 0.0 if kind == "turn" else rng.uniform(-0.45, 0.45)
    return Angles(
        x=trunk(0.05 * calm),
        hop=np.zeros(_KEYS),
        sway=trunk(0.03 * calm),
        yaw=facing + trunk(0.5 * calm),
        twist=trunk(0.2 * calm),
        lean=0.05 + trunk(0.1 * calm),
        side=trunk(0.16 * calm),
        turn=trunk(0.4 * calm + 0.1),
        nod=trunk(0.14),
        tilt=trunk(0.14 * calm + 0.05),
        swing=arms[..., 0],
        lift=arms[..., 1],
        elbow=arms[..., 2],
        outward=arms[..., 3],
        roll=rng.uniform(-0.5, 0.5, (_KEYS, 2)),
        curl=rng.uniform(0.05, 0.5, (_KEYS, 2)),
        spread=rng.uniform(0.6, 1.5, (_KEYS, 2)),
        stride=legs[..., 0],
        astride=legs[..., 1],
        knee=legs[..., 2],
        point=np.zeros((_KEYS, 2)),
    )


def _choices(rng: np.random.Generator, poses: Array, share: float) -> Array:
    """Draw keys (K, 2, C) for both sides: the first pose, or with ``share`` any; some mirrored."""
    chosen = rng.integers(len(poses), size=(_KEYS, 2)) * (rng.uniform(size=(_KEYS, 2)) < share)
    mirrored = rng.uniform(size=_KEYS) < 0.45
    chosen[mirrored, RIGHT] = chosen[mirrored, LEFT]
    # a key counts twice, for the spline to come near it
    chosen = np.repeat(chosen[: _KEYS // 2], 2, axis=0)
    keys = poses[chosen]
    return np.asarray(keys + rng.uniform(-0.09, 0.09, keys.shape) * (keys != 0))


def _spline(keys: Array, at: Array) -> Array:
    """Evaluate the periodic uniform cubic B-spline of keys (K, ...) at (F,)."""
    first = np.floor(at)
    rest = (at - first).reshape(-1, *[1] * (keys.ndim - 1))
    weights = (
        (1 - rest) ** 3 / 6,
        (3 * rest**3 - 6 * rest**2 + 4) / 6,
        (-3 * rest**3 + 3 * rest**2 + 3 * rest + 1) / 6,
        rest**3 / 6,
    )
    index = first.astype(np.int64)
    return np.asarray(sum(w * keys[(index + i) % len(keys)] for i, w in enumerate(weights)))
