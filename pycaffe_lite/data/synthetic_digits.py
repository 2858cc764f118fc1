"""Draws digits that look handwritten into files like those of MNIST, for machines that cannot download MNIST.

A digit is a few strokes, each a smooth curve through some points. Every image moves these points a little, rotates, slants,
scales, shifts and bends the digit, and draws it with a pen of its own width. The same seed gives the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import mnist

SIZE = 28  # pixels, as in MNIST
BATCH = 128  # images drawn at a time: their distance fields stay in the cache

# Several forms of each digit: strokes, separated by bars, each a list of points x,y in percent (x to the right, y down).
# Strokes that share a point still share it after it is moved.
GLYPHS = {
    0: [
        "55,2 20,22 14,62 42,98 80,74 84,30 55,2",
        "70,8 36,8 12,50 34,94 70,86 86,45 68,6 50,4",
    ],
    1: [
        "52,0 50,50 48,100",
        "28,24 54,0 | 54,0 53,50 52,100",
        "30,22 54,0 | 54,0 53,50 52,98 | 24,99 52,98 80,97",
    ],
    2: [
        "14,24 42,2 78,22 60,60 12,96 | 12,96 50,95 90,94",
        "18,20 50,0 78,24 52,70 22,96 12,82 36,80 62,96 92,88",
    ],
    3: [
        "20,10 54,0 74,20 38,46 | 38,46 80,66 62,96 15,90",
        "18,4 50,3 80,4 | 80,4 44,42 | 44,42 82,62 64,96 15,92",
    ],
    4: [
        "22,5 14,36 20,56 | 20,56 50,57 86,50 | 76,5 70,50 66,100",
        "64,0 38,32 8,66 | 8,66 50,66 92,64 | 64,0 64,50 62,100",
        "20,8 16,42 42,56 76,42 | 80,5 76,42 70,100",
    ],
    5: [
        "82,3 55,4 30,5 | 30,5 24,44 | 24,44 60,40 82,68 56,97 14,90",
        "82,5 44,6 26,34 64,54 70,84 42,98 14,88",
    ],
    6: [
        "72,2 36,28 18,70 44,98 78,76 56,54 20,74",
        "46,0 26,40 20,78 50,98 76,80 56,60 22,78",
    ],
    7: [
        "12,6 50,5 86,4 | 86,4 58,48 42,100",
        "12,6 50,5 86,4 | 86,4 58,48 42,100 | 30,50 56,50 82,48",
        "12,24 16,4 | 16,4 50,8 86,3 | 86,3 68,46 62,100",
    ],
    8: [
        "76,14 46,0 24,20 50,46 78,76 50,100 20,78 50,46 76,22 76,14",
        "50,0 26,22 50,46 74,22 50,0 | 50,46 18,74 50,100 82,74 50,46",
    ],
    9: [
        "78,18 48,2 20,26 44,50 78,18 | 78,18 74,60 66,100",
        "76,20 46,2 20,24 44,48 74,30 | 76,20 78,64 54,96 20,90",
    ],
}


def write(folder: Path, seed: int, train: int, test: int) -> None:
    """Writes the four files under their names in MNIST, and a file `SYNTHETIC` that marks them as drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / mnist.SYNTHETIC).write_text(f"The digits in this folder were drawn by synthetic_digits, seed {seed}.\n")
    sets = [(train, mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS), (test, mnist.TEST_IMAGES, mnist.TEST_LABELS)]
    for part, (count, images_name, labels_name) in enumerate(sets):
        images, labels = draw(count, [seed, part])
        mnist.write_idx(folder / images_name, images)
        mnist.write_idx(folder / labels_name, labels)


def draw(count: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Digits, count x 28 x 28 of uint8 (white on black), and their labels, count of uint8, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    ways = rng.random(count)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    with tqdm(total=count, desc="digits", unit="img", disable=None) as bar:
        for digit, variants in GLYPHS.items():
            for way, glyph in enumerate(variants):
                chosen = np.flatnonzero((labels == digit) & ((ways * len(variants)).astype(int) == way))
                for start in range(0, len(chosen), BATCH):
                    batch = chosen[start : start + BATCH]
                    images[batch] = _draw_batch(glyph, len(batch), rng)
                    bar.update(len(batch))
    return images, labels


def _draw_batch(glyph: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Images of one form of one digit."""
    points, curves = _curves(glyph)
    moved = points + rng.normal(0, 0.045, (count, *points.shape))
    radius = np.clip(rng.normal(1.2, 0.3, (count, 1, 1)), 0.6, 2.0).astype(np.float32)  # radius of the pen, in pixels
    ink = rng.uniform(0.85, 1.0, (count, 1, 1)).astype(np.float32)
    place = _placing(count, rng)
    nearest = np.full((count, SIZE, SIZE), np.inf, np.float32)
    for curve in curves:
        line = place(curve @ moved).astype(np.float32)
        for i in range(line.shape[1] - 1):
            np.minimum(nearest, _squared_distance(line[:, i], line[:, i + 1]), out=nearest)
    coverage = np.clip(radius + 0.5 - np.sqrt(nearest), 0, 1)  # soft edges, one pixel wide
    return (255 * ink * coverage).astype(np.uint8)


def _curves(glyph: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct points (P x 2, 0 to 1), and for each stroke the matrix (samples x P) that gives a smooth curve."""
    strokes = [stroke.split() for stroke in glyph.split("|")]
    names = {point: i for i, point in enumerate(dict.fromkeys(point for stroke in strokes for point in stroke))}
    curves = []
    for stroke in strokes:
        chooser = np.zeros((len(stroke), len(names)))
        chooser[np.arange(len(stroke)), [names[point] for point in stroke]] = 1
        curves.append(_spline(len(stroke)) @ chooser)
    return np.array([point.split(",") for point in names], float) / 100, curves


def _spline(count: int) -> np.ndarray:
    """A Catmull-Rom spline through `count` points, with 4 samples per span: a matrix (4 (count - 1) + 1) x count."""
    if count == 2:
        return np.eye(2)
    at = np.arange(4 * (count - 1) + 1) / 4
    span = np.minimum(at.astype(int), count - 2)
    t = at - span
    weights = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    matrix = np.zeros((len(at), count))
    for k in range(4):  # the first and the last point replace their missing neighbours
        np.add.at(matrix, (np.arange(len(at)), np.clip(span + k - 1, 0, count - 1)), weights[:, k])
    return matrix


def _placing(count: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """A map from the unit square (count x S x 2) to pixels, different for each image."""
    height = 19 * rng.uniform(0.88, 1.08, count)
    width = height * rng.uniform(0.65, 1.05, count)
    turn = rng.normal(0, 0.13, count)  # radians
    slant = rng.normal(0.12, 0.2, count)
    shift = SIZE / 2 - 0.5 + rng.normal(0, 0.9, (count, 1, 2))
    bend = rng.normal(0, 0.045, (count, 2, 1))
    phase = rng.uniform(0, 2 * np.pi, (count, 2, 1))
    zero, cos, sin = np.zeros(count), np.cos(turn), np.sin(turn)
    scale = np.array([[width, zero], [-slant * height, height]]).transpose(2, 0, 1)
    matrix = scale @ np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1)

    def place(line: np.ndarray) -> np.ndarray:
        x, y = line[..., 0] - 0.5, line[..., 1] - 0.5
        bent_x = x + bend[:, 0] * np.sin(5 * y + phase[:, 0])
        bent_y = y + bend[:, 1] * np.sin(5 * x + phase[:, 1])
        return np.stack([bent_x, bent_y], axis=-1) @ matrix + shift

    return place


def _squared_distance(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From each pixel to a line segment (start and end: N x 2, in pixels): N x 28 x 28, in pixels squared."""
    grid = np.arange(SIZE, dtype=np.float32)
    along = end - start
    length = np.maximum((along**2).sum(axis=1), np.float32(1e-6))
    x = grid - start[:, :1]  # N x 28
    y = grid - start[:, 1:]
    dx, dy = along[:, 0, None], along[:, 1, None]
    t = (x * dx / length[:, None])[:, None, :] + (y * dy / length[:, None])[:, :, None]
    np.clip(t, 0, 1, out=t)
    across = x[:, None, :] - t * dx[:, :, None]
    across *= across
    t *= dy[:, :, None]
    np.subtract(y[:, :, None], t, out=t)
    t *= t
    across += t
    return across
