"""Draws coloured shapes: images for the notebooks of this folder, which need no download.

A shape has its own place, size, turn and shade in every image. "star" is a star of any colour, "red star" a red one, and
"nothing" an empty background, or a shape far from the middle. The same seed gives the same images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (205, 50, 45), "green": (60, 150, 65), "blue": (55, 95, 200), "yellow": (230, 190, 50)}
FINER = 4  # drawn so many times larger and then shrunk, for smooth edges


def _ring(corners: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Points around the origin, at the radii in turn: a polygon, or with two radii a star."""
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.sin(angle), -np.cos(angle)], 1) * np.resize(radii, corners)[:, None]


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -y / 16], 1)


def _moon() -> np.ndarray:
    t = np.linspace(-2.2, 2.2, 40)
    inner = np.stack([0.45 * np.cos(t[::-1]) - 0.3, 0.81 * np.sin(t[::-1])], 1)
    return np.concatenate([np.stack([np.cos(t), np.sin(t)], 1), inner]) @ np.array([[-1, 0], [0, 1]]) + [0.25, 0]


# Outlines in a square from -1 to 1, x to the right and y down.
SHAPES = {
    "circle": _ring(60, [0.9]),
    "square": _ring(4, [1.1]) @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2),
    "triangle": _ring(3, [1.1]),
    "star": _ring(10, [1.1, 0.45]),
    "cross": np.array(
        [(3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1), (-1, -3), (1, -3), (1, -1), (3, -1)]
    )
    / 3,
    "diamond": _ring(4, [1.15, 0.65]),
    "heart": _heart(),
    "moon": _moon(),
    "arrow": np.array([(0, -1.1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)]),
    "hexagon": _ring(6),
}


def draw(names: Sequence[str], count: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, count x size x size x 3 of uint8 (red, green, blue), and labels, count: places in `names`, at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(names), count)
    return np.stack([paint(names[label], size, rng) for label in labels]), labels


def paint(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One image, size x size x 3 of uint8."""
    grey = rng.integers(90, 200) + rng.integers(-15, 16, 3)
    canvas = Image.new("RGB", (FINER * size, FINER * size), tuple(int(value) for value in grey))
    shift = rng.uniform(-0.13, 0.13, 2)
    if name == "nothing":
        name = rng.choice(list(SHAPES))
        away = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(0.28, 0.9) * np.array([np.cos(away), np.sin(away)])
    _put(canvas, name, FINER * size * (0.5 + shift), FINER * size * rng.uniform(0.26, 0.36), rng)
    return _shrunk(canvas, rng)


def scene(names: Sequence[str], height: int, width: int, radius: float = 10, seed: int = 0) -> np.ndarray:
    """One image, height x width x 3 of uint8, with a shape of each name, in places of their own; radius in pixels."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("RGB", (FINER * width, FINER * height), (150, 150, 150))
    columns = int(np.ceil(np.sqrt(len(names) * width / height)))
    rows = int(np.ceil(len(names) / columns))
    for cell, name in enumerate(names):
        middle = (np.array([cell % columns, cell // columns]) + 0.5 + rng.uniform(-0.12, 0.12, 2)) / [columns, rows]
        _put(canvas, name, FINER * middle * [width, height], FINER * radius, rng)
    return _shrunk(canvas, rng)


def _put(canvas: Image.Image, name: str, middle: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Draws a shape into the canvas; middle (x, y) and radius in its pixels."""
    *colour, shape = name.split()
    rgb = COLOURS[colour[0]] if colour else rng.integers(20, 236, 3)
    turn = rng.normal(0, 0.2)
    outline = SHAPES[shape] @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    fill = tuple(int(value) for value in np.clip(rgb + rng.integers(-20, 21, 3), 0, 255))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in middle + radius * outline], fill)


def _shrunk(canvas: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """The canvas at its final size, with a little noise."""
    pixels = np.asarray(canvas.reduce(FINER), np.float32)
    return np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
