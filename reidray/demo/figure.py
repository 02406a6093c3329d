"""Draw a person from the feet to the hat."""

from reidray.demo.colours import Colour, shade
from reidray.demo.pen import Pen
from reidray.demo.people import Person
from reidray.demo.skeleton import Limb, Pose, Skeleton, pose_skeleton

_FAR = 0.78
"""Factor by which the limb on the far side of the body is darker."""

_CUFF: Colour = (234, 230, 218)


def draw_person(pen: Pen, person: Person, pose: Pose) -> None:
    """Draw a person with a pen, from the parts far from the camera to the near ones."""
    body = pose_skeleton(person.build, pose)
    near = 1 if person.bags_on_right == (pose.view != "back") else 0
    side = pose.view == "side"
    _draw_shadow(pen, person)
    if person.value("backpack") == "yes" and pose.view == "front":
        _draw_backpack(pen, person, body, pose)
    if person.value("hair") == "long" and pose.view != "back":
        _draw_long_hair(pen, person, body, pose)
    if side:
        _draw_arm(pen, person, body.arms[0], _FAR)
    _draw_lower_body(pen, person, body, pose)
    _draw_trunk(pen, person, body, pose)
    if person.value("backpack") == "yes":
        if pose.view == "front":
            _draw_backpack_straps(pen, person, body)
        else:
            _draw_backpack(pen, person, body, pose)
    for arm in body.arms[1:] if side else body.arms:
        _draw_arm(pen, person, arm, 0.9)
    if person.value("bag") == "yes":
        _draw_bag(pen, person, body, 0 if side else (1 if near else -1))
    if person.value("handbag") == "yes":
        _draw_handbag(pen, person, body.arms[1 if side else near])
    if person.walking_stick:
        _draw_walking_stick(pen, body.arms[1 if side else 1 - near])
    _draw_head(pen, person, body, pose)
    if person.value("hat") == "yes":
        _draw_hat(pen, person, body, pose)


def _draw_shadow(pen: Pen, person: Person) -> None:
    pen.oval((0.0, 0.008), 1.5 * person.build.shoulders, 0.022, (58, 58, 62))


def _draw_arm(pen: Pen, person: Person, arm: Limb, light: float) -> None:
    skin = shade(person.skin, light)
    pen.limb(arm.until(1.0), (0.034, 0.03, 0.026), skin)
    pen.oval(arm.end, 0.026, 0.026, skin)
    if person.value("sleeve") == "long":
        pen.limb(arm.until(0.94), (0.042, 0.04, 0.037), shade(_CUFF, light))
        pen.limb(arm.until(0.76), (0.042, 0.04, 0.037), shade(person.upper[0], light))
    else:
        pen.limb(arm.until(0.28), (0.038, 0.038), shade(person.upper[0], light))


def _draw_lower_body(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    long = person.value("lower_length") == "long"
    dress = person.value("lower_type") == "dress"
    for leg, light in zip(body.legs, (_FAR if pose.view == "side" else 1.0, 1.0), strict=True):
        toe = 0.03 if pose.view == "side" else 0.0
        pen.limb(leg.until(1.0), (0.04, 0.034, 0.024), shade(person.skin, light))
        pen.oval((leg.end[0] + toe, leg.end[1]), 0.034 + toe, 0.023, shade(person.shoes, light))
        if not dress:
            _draw_trouser_leg(pen, person.lower, leg, 0.93 if long else 0.44, light)
    if dress:
        hem = 0.1 if long else 0.5 * person.build.legs
        flare = 2.1 * person.build.hips / person.build.waist
        pen.stripes(body.skirt(hem, flare), person.lower, 0.065)


def _draw_trouser_leg(
    pen: Pen, colours: tuple[Colour, ...], leg: Limb, length: float, light: float
) -> None:
    """Draw a trouser leg; a multicoloured one is drawn from the hem up, piece over piece."""
    pieces = 1 if len(colours) == 1 else max(2, round(length * 7))
    for piece in range(pieces, 0, -1):
        covered = leg.until(length * piece / pieces)
        colour = shade(colours[piece % len(colours)], light)
        pen.limb(covered, (0.056, 0.047, 0.038)[: len(covered)], colour)


def _draw_trunk(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    trunk = body.trunk
    if person.value("lower_type") == "trousers":
        pen.band(trunk, trunk[-2].y, trunk[-1].y, person.lower[0])
    if person.value("lower_type") == "dress":
        trunk = trunk[:-1]
    pen.limb((body.neck, body.head), (0.035, 0.035), shade(person.skin, 0.88))
    pen.stripes(trunk, person.upper, 0.062)
    top, height = trunk[0].y, trunk[0].y - trunk[-1].y
    colour = person.pattern_colour
    if person.pattern == "band":
        pen.band(trunk, top - 0.46 * height, top - 0.56 * height, colour)
    elif person.pattern == "badge" and pose.view != "side":
        pen.oval((0.0, top - 0.36 * height), 0.045, 0.045, colour)
    elif person.pattern == "badge":
        pen.oval((body.neck[0], top - 0.4 * height), 0.036, 0.045, colour)


def _draw_backpack(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    colour = person.backpack_colour
    shoulders, hips = body.trunk[1], body.trunk[-1]
    middle, tall = (shoulders.y + hips.y) / 2 + 0.02, (shoulders.y - hips.y) / 2
    if pose.view == "side":
        x = (shoulders.left + hips.left) / 2 - 0.045
        pen.box((x, middle), 0.08, tall, colour)
        pen.box((x - 0.03, middle - 0.4 * tall), 0.06, 0.4 * tall, shade(colour, 0.75))
        pen.line([(body.neck[0], shoulders.y + 0.05), (x + 0.1, middle)], 0.03, colour)
    else:
        wide = 0.72 * shoulders.right + (0.1 if pose.view == "front" else 0.0)
        pen.box((0.0, middle), wide, tall, colour)
        pen.box((0.0, middle - 0.4 * tall), 0.75 * wide, 0.38 * tall, shade(colour, 0.75))


def _draw_backpack_straps(pen: Pen, person: Person, body: Skeleton) -> None:
    shoulders, hips = body.trunk[1], body.trunk[-1]
    for side in (-1, 1):
        x = side * 0.6 * shoulders.right
        low = hips.y + 0.35 * (shoulders.y - hips.y)
        pen.line([(x, body.trunk[0].y), (x, low)], 0.045, person.backpack_colour)


def _draw_bag(pen: Pen, person: Person, body: Skeleton, side: int) -> None:
    """Draw a bag at the hip with its strap; `side` is 0 for a person seen from the side."""
    colour = person.bag_colour
    shoulder, hip = body.trunk[0], body.trunk[-1]
    x = side * (hip.right + 0.02) if side else -0.01
    start = -0.8 * side * shoulder.right if side else body.neck[0] + 0.02
    pen.line([(start, shoulder.y), (x, hip.y + 0.03)], 0.03, colour)
    pen.box((x, hip.y - 0.02), 0.09, 0.068, colour)
    pen.box((x, hip.y + 0.02), 0.09, 0.03, shade(colour, 0.8))


def _draw_handbag(pen: Pen, person: Person, arm: Limb) -> None:
    x, y = arm.end
    colour = person.handbag_colour
    pen.line([(x - 0.045, y - 0.07), (x, y), (x + 0.045, y - 0.07)], 0.014, shade(colour, 0.6))
    low, high = y - 0.175, y - 0.07
    pen.polygon([(x - 0.06, high), (x + 0.06, high), (x + 0.085, low), (x - 0.085, low)], colour)
    pen.line([(x - 0.065, high), (x + 0.065, high)], 0.02, shade(colour, 0.6))


def _draw_walking_stick(pen: Pen, arm: Limb) -> None:
    x, y = arm.end
    pen.line([(x - 0.03, y + 0.03), (x + 0.01, y + 0.03), (x + 0.03, 0.0)], 0.018, (70, 46, 30))


def _draw_long_hair(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    """Draw the hair behind the head and over the shoulders, from the front or the side."""
    x, y = body.head
    head = person.build.head
    low = body.trunk[1].y - 0.1
    back = x - 0.3 * head if pose.view == "side" else x
    wide = (0.36 if pose.view == "side" else 0.66) * head
    pen.box((back, (y + low) / 2), wide, (y - low) / 2 + 0.02, person.hair)


def _draw_head(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    x, y = body.head
    tall = person.build.head / 2
    wide = 0.84 * tall
    hair, skin = person.hair, person.skin
    long = person.value("hair") == "long"
    if pose.view == "back":
        pen.oval((x, y), wide, tall, skin)
        pen.oval((x, y + 0.2 * tall), 1.08 * wide, 0.95 * tall, hair)
        if long:
            low = body.trunk[1].y - 0.1
            pen.box((x, (y + low) / 2), 1.4 * wide, (y - low) / 2, hair)
        return
    backwards = 0.28 * wide if pose.view == "side" else 0.0
    pen.oval((x - backwards, y + 0.16 * tall), 1.12 * wide, 0.98 * tall, hair)
    pen.oval((x + 0.6 * backwards, y - 0.12 * tall), 0.9 * wide, 0.86 * tall, skin)
    if pose.view == "side":
        pen.oval((x + 1.0 * wide, y - 0.15 * tall), 0.16 * wide, 0.14 * tall, skin)
        pen.oval((x + 0.6 * wide, y + 0.05 * tall), 0.1 * wide, 0.12 * tall, (40, 32, 32))
        return
    for side in (-1, 1):
        pen.oval((x + side * 0.38 * wide, y), 0.12 * wide, 0.12 * tall, (40, 32, 32))
        if long:
            strand = (x + side * 1.05 * wide, y - 0.75 * tall)
            pen.box(strand, 0.3 * wide, 0.95 * tall, hair)
    pen.line(
        [(x - 0.25 * wide, y - 0.5 * tall), (x + 0.25 * wide, y - 0.5 * tall)],
        0.01,
        shade(skin, 0.6),
    )


def _draw_hat(pen: Pen, person: Person, body: Skeleton, pose: Pose) -> None:
    x, y = body.head
    tall = person.build.head / 2
    wide = 0.84 * tall
    colour, brim = person.hat_colour, shade(person.hat_colour, 0.72)
    pen.box((x, y + 0.85 * tall), 1.16 * wide, 0.5 * tall, colour)
    if person.hat == "beanie":
        pen.box((x, y + 0.5 * tall), 1.22 * wide, 0.16 * tall, brim)
        pen.oval((x, y + 1.4 * tall), 0.3 * wide, 0.28 * tall, brim)
    elif person.hat == "brim":
        pen.box((x, y + 0.48 * tall), 1.9 * wide, 0.15 * tall, brim)
    elif pose.view == "side":
        pen.box((x + 1.1 * wide, y + 0.48 * tall), 0.85 * wide, 0.13 * tall, brim)
    elif pose.view == "front":
        pen.box((x, y + 0.42 * tall), 1.0 * wide, 0.2 * tall, brim)
