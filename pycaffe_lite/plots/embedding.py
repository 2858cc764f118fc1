"""Pictures of the points in a plane to which a net maps images, and how well neighbours agree."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree

from ..errors import DataError
from .figure import new_axes, set_titles

COLORS = ["#4477aa", "#ee7733", "#228833", "#cc3311", "#aa77cc", "#8a5a44", "#ee6699", "#777777", "#bbaa22", "#22aabb"]


def knn_accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, k: int = 5
) -> float:
    """The share of test points (M x D) whose class is that of most of the k nearest training points (N x D).

    Distances are Euclidean. If classes have equally many votes, the class of the nearest point wins. Raises DataError for
    values that are not finite, such as those of a diverged net.
    """
    if not np.isfinite(train).all() or not np.isfinite(test).all():
        raise DataError("the embedding has values that are not finite: has the training diverged?")
    _, nearest = cKDTree(train).query(test, k=np.arange(1, min(k, len(train)) + 1))
    classes = np.asarray(train_labels)[nearest]
    votes = (classes[:, :, np.newaxis] == classes[:, np.newaxis, :]).sum(axis=2)
    winner = votes.argmax(axis=1)  # of equal counts the first, which is the nearest
    return float((classes[np.arange(len(classes)), winner] == test_labels).mean())


def scatter(points: np.ndarray, labels: np.ndarray, accuracy: float | None = None, note: str | None = None) -> Axes:
    """The picture of points (N x 2) coloured by label (N, 0 to 9), each class named at its median."""
    axes = new_axes(8, 7)
    axes.set_aspect("equal", adjustable="datalim")
    order = np.random.default_rng(0).permutation(len(points))  # so that no class covers the others
    colors = np.array(COLORS)[labels[order] % 10]
    axes.scatter(points[order, 0], points[order, 1], c=colors, s=6, alpha=0.55, linewidths=0)
    present = np.unique(labels)
    for digit in present:
        x, y = np.median(points[labels == digit], axis=0)
        outline = [withStroke(linewidth=3, foreground="white")]
        axes.annotate(str(digit), (x, y), fontsize=17, fontweight="bold", ha="center", va="center", path_effects=outline)
    handles = [Line2D([], [], marker="o", linestyle="", color=COLORS[digit % 10], label=str(digit)) for digit in present]
    axes.legend(handles=handles, title="digit", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"2-D embedding of {len(points):,} test images"
    if accuracy is not None:
        title += f", 5-NN accuracy {accuracy:.3f}"
    set_titles(axes, title, note)
    return axes
