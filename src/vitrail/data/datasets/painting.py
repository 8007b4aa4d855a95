"""How scenes of the generated world are made up and painted: a ground, things before it, and light.

Only evenly distributed numbers are drawn, and only operations that every processor rounds alike are used on them.
"""

import math
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, UInt8

from vitrail.data.classes import listing
from vitrail.data.datasets.shapes import PATTERNS, SHAPES, Field, bar, exact, unit_area, wave
from vitrail.errors import DataError

CLASSES = tuple(SHAPES)
PARTS = ("train", "val", "test")
OUTLINES = {**SHAPES, "bar": bar}
LARGEST = 64_000_000  # values of one scene
MOST_SCENES = 10_000_000  # in one data set
SMALLEST = 16  # rows and columns in which a shape can still be told
LIT, DIM = (0.5, 0.9), (0.1, 0.35)  # lightness of colours, from 0 to 1
LEAN = math.pi / 6  # how far a thing is turned, at most, to either side
ALONE = (0.22, 0.32)  # radius of a thing that has the scene for itself, in shorter sides of the picture

Range = tuple[float, float]


def check_scenes(count: int, size: tuple[int, int], channels: int, classes: tuple[str, ...]) -> None:
    """Complain about scenes that cannot be drawn.

    Raises:
        DataError: there are none, they are too small or too large, or `classes` lacks a shape.
    """
    if count > MOST_SCENES:
        raise DataError(f"{count:,} scenes: at most {MOST_SCENES:,}, whose classes have to be held in memory.")
    if count < 1 or min(size) < SMALLEST:
        raise DataError(f"{count} scenes of {size[0]}x{size[1]}: at least one, and {SMALLEST}x{SMALLEST} pixels.")
    if channels < 1 or math.prod(size) * channels > LARGEST:
        raise DataError(
            f"Scenes of {size[0]}x{size[1]} pixels in channels={channels}: at least one channel, "
            f"and at most {LARGEST // 1_000_000} million values."
        )
    refuse_other_shapes(CLASSES, classes)


def refuse_other_shapes(painted: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Refuse classes among which some of the shapes that are painted are not.

    Raises:
        DataError: names both.
    """
    if not set(painted) <= set(classes):
        raise DataError(f"Scenes show {', '.join(painted)}, and the classes expected are {listing(classes)}.")


class Texture(NamedTuple):
    """What a thing wears.

    Attributes:
        pattern: number in `PATTERNS`.
        colours: two, each with one value a channel, 0 to 1.
        turn: cosine and sine of the pattern's direction.
        period: of the pattern, pixels.
        phase: along and across, in periods.
    """

    pattern: int
    colours: Float[np.ndarray, "2 channels"]
    turn: tuple[float, float]
    period: float
    phase: tuple[float, float]


class Thing(NamedTuple):
    """Something in a scene.

    Attributes:
        shape: a name of `SHAPES`, or `bar` for clutter.
        centre_xy: pixels.
        turn: cosine and sine of its direction.
        scale: pixels for one unit of the shape, along it and across.
        texture: what it wears.
    """

    shape: str
    centre_xy: tuple[float, float]
    turn: tuple[float, float]
    scale: tuple[float, float]
    texture: Texture


class Ground(NamedTuple):
    """What things stand in front of: a cloudy surface with cloudy patches.

    Attributes:
        colours: two, of the surface.
        clouds: where it is the second, between 0 and 1.
        patches: where each patch covers it, and what it wears.
    """

    colours: Float[np.ndarray, "2 channels"]
    clouds: Field
    patches: list[tuple[Field, Texture]]


class Scene(NamedTuple):
    """All there is to draw.

    Attributes:
        ground: behind everything.
        things: from the farthest to the nearest.
        grain: noise of the camera, one number for each pixel.
    """

    ground: Ground
    things: list[Thing]
    grain: Field


class Drawing(NamedTuple):
    """A scene as pixels.

    Attributes:
        image: grey, RGB, or in any other number of channels.
        masks: for each thing, from the farthest to the nearest, where it is seen.
    """

    image: UInt8[np.ndarray, "rows columns channels"]
    masks: Bool[np.ndarray, "things rows columns"]


class Dice:
    """Draws the parts of a scene, from nothing but evenly distributed numbers, which every version of numpy gives."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int], channels: int) -> None:
        self.random, self.size, self.channels = random, size, channels

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.share()

    def share(self) -> float:
        """Between 0 and 1."""
        return float(self.random.random())

    def below(self, count: int) -> int:
        return int(self.share() * count)

    def turn(self, most: float = math.pi) -> tuple[float, float]:
        """Cosine and sine of any direction, or of one not far from upright."""
        angle = self.between(-most, most)
        return exact(math.cos(angle)), exact(math.sin(angle))

    def colour(self, light: Range) -> Float[np.ndarray, " channels"]:
        """Any hue, from pale to vivid; in a single channel, just its lightness."""
        hue, lightness = self.share(), self.between(*light)
        vividness = self.between(0.15, 0.9) * min(1.0, 2 * lightness)
        shine = wave(hue + np.arange(self.channels, dtype=np.float32) / self.channels)
        return np.clip(lightness + vividness * (shine - shine.mean()), 0.02, 0.98)

    def colours(self, light: Range) -> Float[np.ndarray, "2 channels"]:
        return np.stack([self.colour(light), self.colour(light)])

    def texture(self, light: Range) -> Texture:
        period = self.between(0.1, 0.22) * min(self.size)
        phase = (self.share(), self.share())
        return Texture(self.below(len(PATTERNS)), self.colours(light), self.turn(), period, phase)

    def place(self, margin: float) -> tuple[float, float]:
        """x and y, at least `margin` pixels from the edge."""
        rows, columns = self.size
        return self.between(margin, columns - margin), self.between(margin, rows - margin)

    def thing(self, shape: str, radii: Range = ALONE, margin: float = 1.2) -> Thing:
        """What the scene shows: large enough to be told, all in the picture, or nearly.

        Args:
            shape: a class.
            radii: of a disc of the same area, in shorter sides of the picture.
            margin: of its centre from the edge of the picture, in radii.
        """
        radius = self.between(*radii) * min(self.size)
        unit = radius * exact(math.sqrt(math.pi / unit_area(shape)))
        squeeze = exact(math.sqrt(self.between(0.8, 1.25)))
        scale = (unit * squeeze, unit / squeeze)
        return Thing(shape, self.place(margin * radius), self.turn(LEAN), scale, self.texture(LIT))

    def bar(self, width: float, light: Range) -> Thing:
        """Clutter, up to `width` of the picture wide."""
        across = self.between(0.3, 1.0) * width * min(self.size) / 2
        along = across * self.between(1.5, 8.0)
        return Thing("bar", self.place(0.0), self.turn(), (along, across), self.texture(light))

    def clouds(self, cells: int) -> Field:
        """Smooth noise between 0 and 1, with this many cells along the shorter side."""
        steps = [max(2, round(cells * side / min(self.size))) for side in self.size]
        corners = self.random.random((steps[0] + 1, steps[1] + 1)).astype(np.float32)
        (top, down), (left, across) = (smooth_steps(side, step) for side, step in zip(self.size, steps, strict=True))
        above, below = corners[top], corners[top + 1]
        rows = above + (below - above) * down[:, None]
        return rows[:, left] + (rows[:, left + 1] - rows[:, left]) * across

    def ground(self) -> Ground:
        clouds = 0.65 * self.clouds(3) + 0.35 * self.clouds(9)
        patches = [(np.clip((self.clouds(3) - 0.55) * 12, 0, 1), self.texture(DIM)) for _ in range(2)]
        return Ground(self.colours(DIM), clouds, patches)

    def scene(self, shape: str) -> Scene:
        ground = self.ground()
        behind = [self.bar(0.2, DIM) for _ in range(4 + self.below(3))]
        before = [self.bar(0.07, LIT) for _ in range(self.below(2))]
        grain = self.random.random(self.size).astype(np.float32)
        return Scene(ground, [*behind, self.thing(shape), *before], grain)


def smooth_steps(length: int, steps: int) -> tuple[np.ndarray, Float[np.ndarray, " length"]]:
    """For each pixel along a side: the corner before it, and how far it is on its way to the next, eased."""
    places = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(steps / length)
    corner = places.astype(np.int64)
    way = places - corner.astype(np.float32)
    return corner, way * way * (3 - 2 * way)


class Canvas:
    """Paints one thing over the other."""

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        rows, columns = size
        self.x = np.arange(columns, dtype=np.float32)[None, :] + np.float32(0.5)
        self.y = np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5)
        self.pixels = np.zeros((channels, rows, columns), np.float32)

    def lay(self, cover: Field, colour: Float[np.ndarray, "channels rows columns"]) -> None:
        """Put a colour over what is there: all of it where `cover` is 1, none where it is 0."""
        self.pixels += (colour - self.pixels) * cover

    def colour(self, texture: Texture) -> Float[np.ndarray, "channels rows columns"]:
        """A texture over the whole picture."""
        u, v = turn(self.x / texture.period, self.y / texture.period, texture.turn)
        level = PATTERNS[texture.pattern](u + texture.phase[0], v + texture.phase[1])
        return blend(texture.colours, level)

    def distance(self, thing: Thing, shift: float = 0.0) -> Field:
        """How far each pixel lies outside a thing, about, and negative inside; of a thing moved down to the right."""
        x, y = thing.centre_xy
        u, v = turn(self.x - (x + shift), self.y - (y + shift), thing.turn)
        along, across = thing.scale
        return OUTLINES[thing.shape](u / along, v / -across) * min(along, across)

    def ground(self, ground: Ground) -> None:
        self.pixels[:] = blend(ground.colours, ground.clouds)
        for cover, texture in ground.patches:
            self.lay(cover, self.colour(texture))

    def thing(self, thing: Thing) -> Bool[np.ndarray, "rows columns"]:
        """Paint a thing, with the shadow that it throws and a darker rim; where it is comes back."""
        soft = 0.12 * min(thing.scale)
        self.pixels *= 1 - 0.45 * np.clip(0.5 - self.distance(thing, shift=soft) / (2 * soft), 0, 1)
        distance = self.distance(thing)
        rim = np.clip(1 + distance / (2 * soft), 0, 1)
        self.lay(np.clip(0.5 - distance, 0, 1), self.colour(thing.texture) * (1 - 0.35 * rim))
        return distance < 0


def turn(x: Field, y: Field, direction: tuple[float, float]) -> tuple[Field, Field]:
    """Coordinates along a direction and across it."""
    cosine, sine = direction
    return x * cosine + y * sine, y * cosine - x * sine


def blend(colours: Float[np.ndarray, "2 channels"], level: Field) -> Float[np.ndarray, "channels rows columns"]:
    """The first colour where the level is 0, the second where it is 1."""
    first, second = colours[:, :, None, None]
    return first + level * (second - first)


def draw(scene: Scene, size: tuple[int, int], channels: int) -> Drawing:
    """Paint a scene, from the farthest thing to the nearest."""
    canvas, masks = Canvas(size, channels), []
    canvas.ground(scene.ground)
    for thing in scene.things:
        place = canvas.thing(thing)
        masks = [mask & ~place for mask in masks]
        masks.append(place)
    lit = np.clip(canvas.pixels + (scene.grain - 0.5) * 0.06, 0, 1)
    image = rearrange((lit * 255 + 0.5).astype(np.uint8), "channels rows columns -> rows columns channels")
    return Drawing(image, np.stack(masks))
