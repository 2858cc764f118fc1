"""Draws coloured shapes and textures into files like those of CIFAR-10, for machines that cannot download CIFAR-10.

The ten classes, five shapes and five textures, differ only in form: place, size, angle and both colours are drawn anew for
every image, over a background with a colour gradient, with noise. The same seed gives the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import cifar10

SIZE = 32  # pixels
BATCH = 200  # images drawn at a time
NOISE = 25.0  # standard deviation, of 255

# A field is negative inside the form and positive outside, in pixels. u and v are rotated coordinates in pixels from its
# centre, and r is its radius or the period of its pattern.
Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _wave(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Stripes half a period wide: approximately the distance from their edges."""
    return np.sin(2 * np.pi * x / period) * period / 6


FORMS: dict[str, Field] = {
    "disc": lambda u, v, r: np.hypot(u, v) - r,
    "ring": lambda u, v, r: np.abs(np.hypot(u, v) - 0.8 * r) - 0.25 * r,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) - 0.85 * r,
    "triangle": lambda u, v, r: np.maximum(v - 0.5 * r, 0.87 * np.abs(u) - 0.5 * v - 0.5 * r),
    "cross": lambda u, v, r: np.maximum(np.minimum(np.abs(u), np.abs(v)) - 0.28 * r, np.maximum(np.abs(u), np.abs(v)) - r),
    "stripes": lambda u, v, r: _wave(u, r),
    "checks": lambda u, v, r: np.sin(2 * np.pi * u / r) * np.sin(2 * np.pi * v / r) * r / 4,
    "dots": lambda u, v, r: 0.28 * r - np.hypot(_wave(u, 2 * r), _wave(v, 2 * r)),
    "waves": lambda u, v, r: _wave(u + 0.35 * r * np.sin(2 * np.pi * v / (1.5 * r)), r),
    "circles": lambda u, v, r: _wave(np.hypot(u, v), r),
}
SHAPES = 5  # the number of shapes; the other fields are textures


def write(folder: Path, seed: int, train: int, test: int) -> None:
    """Writes the six files under their names in CIFAR-10, and a file `SYNTHETIC` that marks them as drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    names = "\n".join(f"{label} {name}" for label, name in enumerate(FORMS))
    (folder / cifar10.SYNTHETIC).write_text(
        f"The images in this folder were drawn by synthetic_cifar10, seed {seed}.\n{names}\n"
    )
    files = [(name, train // 5 + (i < train % 5)) for i, name in enumerate(cifar10.TRAIN_FILES)]
    files += [(name, test) for name in cifar10.TEST_FILES]
    for part, (name, count) in enumerate(files):
        images, labels = draw(count, [seed, part])
        records = np.concatenate([labels[:, None], images.reshape(count, -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())


def draw(count: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images, count x 3 x 32 x 32 of uint8 (red, green, blue), and their labels, count of uint8, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(FORMS), count).astype(np.uint8)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    with tqdm(total=count, desc="images", unit="img", disable=None) as bar:
        for label, field in enumerate(FORMS.values()):
            chosen = np.flatnonzero(labels == label)
            for start in range(0, len(chosen), BATCH):
                batch = chosen[start : start + BATCH]
                images[batch] = _draw_batch(field, label < SHAPES, len(batch), rng)
                bar.update(len(batch))
    return images, labels


def _draw_batch(field: Field, shape: bool, count: int, rng: np.random.Generator) -> np.ndarray:
    """Images of one class: count x 3 x 32 x 32 of uint8."""

    def each(low: float, high: float, *axes: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *axes, 1, 1)).astype(np.float32)

    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - (SIZE - 1) / 2
    angle = each(-0.4, 0.4) if shape else each(-np.pi, np.pi)
    x, y = x - each(-6, 6), y - each(-6, 6)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    radius = each(7, 12)
    inside = np.clip(0.5 - field(u, v, radius), 0, 1)[:, None]  # soft edges, one pixel wide
    ground, paint = each(0, 255, 3), each(0, 255, 3)
    paint = np.where(np.abs(paint - ground).max(axis=1, keepdims=True) < 80, 255 - ground, paint)  # so that it stands out
    slope = (each(-3, 3, 3) * x[:, None] + each(-3, 3, 3) * y[:, None]).astype(np.float32)
    noise = NOISE * rng.standard_normal((count, 3, SIZE, SIZE), np.float32)
    return np.clip(ground + slope + inside * (paint - ground) + noise, 0, 255).astype(np.uint8)
