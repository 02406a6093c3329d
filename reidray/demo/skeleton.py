"""Compute the joints and outlines of a person who walks past a camera."""

import math
from dataclasses import dataclass

from reidray.demo.pen import Point, Slice
from reidray.demo.people import Build

VIEWS = ("front", "back", "side")


@dataclass(frozen=True)
class Pose:
    """Hold the pose of a person in front of the camera.

    Attributes:
        view: one of `VIEWS`; a person seen from the side walks in the direction of x.
        stride: the phase of the step, -1 to 1; at 0 both feet are together.
    """

    view: str
    stride: float


@dataclass(frozen=True)
class Limb:
    """Hold the joints of an arm (shoulder, elbow, hand) or a leg (hip, knee, foot)."""

    top: Point
    middle: Point
    end: Point

    def until(self, share: float) -> tuple[Point, ...]:
        """Return the joints of the upper part of the limb, which a sleeve of a length covers."""
        if share <= 0.5:
            return (self.top, _between(self.top, self.middle, 2 * share))
        return (self.top, self.middle, _between(self.middle, self.end, 2 * share - 1))


@dataclass(frozen=True)
class Skeleton:
    """Hold the joints and outlines of a figure; the far limb of a pair comes first."""

    head: Point
    neck: Point
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    trunk: tuple[Slice, ...]

    def skirt(self, hem: float, flare: float) -> tuple[Slice, ...]:
        """Return the outline of a skirt from the waist down to the height `hem`."""
        waist = self.trunk[-2]
        middle, half = (waist.left + waist.right) / 2, (waist.right - waist.left) / 2
        wide = half * flare
        return (waist, Slice(hem, middle - wide, middle + wide))


def pose_skeleton(build: Build, pose: Pose) -> Skeleton:
    """Return the joints and outlines of a body in a pose."""
    return _side_skeleton(build, pose) if pose.view == "side" else _frontal_skeleton(build, pose)


def _frontal_skeleton(build: Build, pose: Pose) -> Skeleton:
    chest = _shoulder_height(build)
    hip = build.legs

    def arm(side: int) -> Limb:
        out = side * build.shoulders
        reach = (chest - hip) / 2
        swing = 0.02 * side * pose.stride
        elbow = (out + side * 0.045, chest - reach)
        return Limb((out, chest - 0.015), elbow, (out + side * 0.06 + swing, hip - 0.01))

    def leg(side: int) -> Limb:
        out = side * build.hips * 0.55
        lift = 0.035 * max(0.0, side * pose.stride)
        knee = (out + side * 0.008, hip * 0.52 + lift)
        return Limb((out, hip), knee, (out + side * 0.01, 0.02 + lift))

    trunk = (
        Slice(chest + 0.02, -0.55 * build.shoulders, 0.55 * build.shoulders),
        Slice(chest - 0.015, -build.shoulders, build.shoulders),
        Slice(hip + 0.1, -build.waist, build.waist),
        Slice(hip - 0.02, -build.hips, build.hips),
    )
    head = (0.0, 1 - build.head / 2 - 0.5 * build.stoop)
    return Skeleton(head, (0.0, chest), (arm(-1), arm(1)), (leg(-1), leg(1)), trunk)


def _side_skeleton(build: Build, pose: Pose) -> Skeleton:
    chest = _shoulder_height(build)
    hip = build.legs
    forward = 0.015 + 0.8 * build.stoop

    def arm(side: int) -> Limb:
        angle = -0.45 * side * pose.stride
        half = (chest - hip) / 2 + 0.005
        top = (forward, chest - 0.02)
        elbow = _swing(top, angle - 0.08, half)
        return Limb(top, elbow, _swing(elbow, angle + 0.3, half))

    def leg(side: int) -> Limb:
        angle = 0.34 * side * pose.stride
        knee = _swing((0.0, hip), angle + 0.08, hip * 0.49)
        foot = _swing(knee, angle - 0.12, hip * 0.49)
        return Limb((0.0, hip), knee, (foot[0], max(foot[1], 0.02)))

    depth = build.depth
    trunk = (
        Slice(chest + 0.02, forward - 0.6 * depth, forward + 0.5 * depth),
        Slice(chest - 0.05, forward - depth, forward + depth),
        Slice(hip + 0.1, -0.8 * depth, 0.9 * depth),
        Slice(hip - 0.02, -depth, 0.95 * depth),
    )
    head = (forward + 0.5 * build.stoop + 0.005, 1 - build.head / 2 - 0.6 * build.stoop)
    return Skeleton(head, (forward, chest), (arm(-1), arm(1)), (leg(-1), leg(1)), trunk)


def _shoulder_height(build: Build) -> float:
    return 1 - build.head - 0.025 - 0.3 * build.stoop


def _swing(joint: Point, angle: float, length: float) -> Point:
    return joint[0] + length * math.sin(angle), joint[1] - length * math.cos(angle)


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
