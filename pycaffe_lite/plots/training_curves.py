"""Pictures of training logs: losses, accuracy or learning rate of one or more runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ..errors import DataError
from .figure import new_axes, set_titles
from .training_log import TestRow, TrainingLog, TrainRow

# The index is Caffe's number of the chart type.
CHART_TYPES = [
    "Test accuracy vs. Iters",
    "Test accuracy vs. Seconds",
    "Test loss vs. Iters",
    "Test loss vs. Seconds",
    "Train learning rate vs. Iters",
    "Train learning rate vs. Seconds",
    "Train loss vs. Iters",
    "Train loss vs. Seconds",
]
LOSSES = "losses"

COLORS = ["#2f6fb0", "#d9622b", "#3a8f5c", "#8a5bb5", "#b8902a", "#3aa0a8", "#b5476b", "#6b7280"]
RATE_COLOR = "#8b949e"
LOG_SCALE_FROM = 10.0
MARKERS_UP_TO = 60


@dataclass
class Series:
    """A curve: `x` in iterations or seconds, `y` the values."""

    label: str
    x: list[float]
    y: list[float]


def plot(kind: str, logs: dict[str, TrainingLog], title: str | None = None, note: str | None = None) -> Axes:
    """The chart, one of `CHART_TYPES` or `LOSSES`. `logs`: by their names in the legend.

    Raises DataError if a log has no such values.
    """
    axes = new_axes(8.5, 5)
    if kind == LOSSES:
        _plot_losses(axes, logs)
    else:
        _plot_chart(axes, kind, logs)
    set_titles(axes, title or ("Training" if kind == LOSSES else kind), note)
    return axes


def smoothed(values: list[float], window: int) -> list[float]:
    """The mean over `window` values (odd) around each value, fewer at the ends; NaN is ignored."""
    half = window // 2
    sums, counts = [0.0], [0]
    for value in values:
        finite = math.isfinite(value)
        sums.append(sums[-1] + (value if finite else 0.0))
        counts.append(counts[-1] + finite)
    result = []
    for i in range(len(values)):
        low, high = max(i - half, 0), min(i + half + 1, len(values))
        count = counts[high] - counts[low]
        result.append((sums[high] - sums[low]) / count if count else math.nan)
    return result


# ----------------------------------------------------------------------------------------------------------------- charts


def _plot_chart(axes: Axes, kind: str, logs: dict[str, TrainingLog]) -> None:
    quantity, unit = kind.split(" vs. ")
    curves = []
    for name, log in logs.items():
        log_curves = _series(log, quantity, unit)
        if not log_curves:
            raise DataError(f'log "{name}" has nothing for the chart "{kind}"')
        curves += [Series(_label(name, series.label, len(log_curves) > 1), series.x, series.y) for series in log_curves]
    for series, color in zip(curves, cycle(COLORS), strict=False):
        marker = "o" if len(series.x) <= MARKERS_UP_TO else None
        axes.plot(series.x, series.y, color=color, linewidth=1.4, marker=marker, markersize=3.5, label=series.label)
    if "loss" in quantity:
        _choose_scale(axes, [y for series in curves for y in series.y])
    _describe(axes, unit, quantity)


def _plot_losses(axes: Axes, logs: dict[str, TrainingLog]) -> None:
    """Each log in its own colour: the loss of each display light, its moving mean dark, tests as circles."""
    shown: list[float] = []
    rates = []
    for (name, log), color in zip(logs.items(), cycle(COLORS), strict=False):
        train, tests = _series(log, "Train loss", "Iters"), _series(log, "Test loss", "Iters")
        if not train and not tests:
            raise DataError(f'log "{name}" has no losses')
        prefix = f"{name}: " if len(logs) > 1 else ""
        for series in train:
            shown += _plot_train_loss(axes, series, color, prefix)
        test_colors = [color] if len(logs) > 1 else COLORS[1:]
        for series, test_color in zip(tests, cycle(test_colors), strict=False):
            label = f"{prefix}test {series.label}"
            style = {"markersize": 5.5, "markerfacecolor": "white", "markeredgewidth": 1.5, "linewidth": 0.9}
            axes.plot(series.x, series.y, "o--", color=test_color, label=label, zorder=4, **style)  # type: ignore[arg-type]
            shown += series.y
        rates += [rate for rate in _series(log, "Train learning rate", "Iters") if len(set(rate.y)) > 1]
    _choose_scale(axes, shown)
    if rates:
        _plot_rates(axes, rates)
    _describe(axes, "Iters", "loss")


def _plot_train_loss(axes: Axes, series: Series, color: str, prefix: str) -> list[float]:
    window = 2 * (len(series.y) // 50) + 1
    if window == 1:
        axes.plot(series.x, series.y, color=color, linewidth=1.6, label=f"{prefix}training loss")
        return series.y
    mean = smoothed(series.y, window)
    axes.plot(series.x, series.y, color=color, alpha=0.25, linewidth=0.8, label=f"{prefix}training loss")
    axes.plot(series.x, mean, color=color, linewidth=1.8, label=f"{prefix}training loss, smoothed")
    return mean


def _plot_rates(axes: Axes, rates: list[Series]) -> None:
    second = axes.twinx()
    axes.set_zorder(second.get_zorder() + 1)  # draws the legend on top
    axes.patch.set_visible(False)
    for rate in rates:
        second.plot(rate.x, rate.y, color=RATE_COLOR, linewidth=1.1, linestyle=":")
    second.set_ylabel("learning rate (dotted)", color=RATE_COLOR)
    second.set_ylim(bottom=0)
    second.tick_params(colors=RATE_COLOR)
    second.spines[["top", "left"]].set_visible(False)
    axes.plot([], [], color=RATE_COLOR, linewidth=1.1, linestyle=":", label="learning rate")


def _series(log: TrainingLog, quantity: str, unit: str) -> list[Series]:
    """The curves of a log for "Test accuracy", "Test loss", "Train learning rate" or "Train loss"."""
    if quantity == "Train loss":
        return _curve("loss", [(row, row.loss) for row in log.train], unit)
    if quantity == "Train learning rate":
        return _curve("learning rate", [(row, row.learning_rate) for row in log.train], unit)
    names = dict.fromkeys((row.net, name) for row in log.test for name in row.outputs if _is_wanted(log, name, quantity))
    several = len({net for net, _ in names}) > 1
    curves = []
    for net, name in names:
        points = [(row, row.outputs.get(name, math.nan)) for row in log.test if row.net == net]
        curves += _curve(f"{name} (net #{net})" if several else name, points, unit)
    return curves


def _is_wanted(log: TrainingLog, output: str, quantity: str) -> bool:
    if quantity == "Test loss":
        return output in log.losses or (not log.losses and "loss" in output.lower())
    return "acc" in output.lower() or "top" in output.lower()


def _curve(label: str, points: list[tuple[TrainRow, float]] | list[tuple[TestRow, float]], unit: str) -> list[Series]:
    """One curve, or none if there are no points. If a log goes back to an earlier iteration, the line is broken."""
    x: list[float] = []
    y: list[float] = []
    for row, value in points:
        at = row.seconds if unit == "Seconds" else row.iteration
        if at is None or math.isnan(value):
            continue
        if x and at < x[-1]:
            x.append(math.nan)
            y.append(math.nan)
        x.append(at)
        y.append(value)
    return [Series(label, x, y)] if x else []


def _label(name: str, curve: str, several: bool) -> str:
    return f"{name}: {curve}" if several else name


def _choose_scale(axes: Axes, values: list[float]) -> None:
    """Uses a logarithmic axis if all values are positive and the largest is far above the smallest."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > LOG_SCALE_FROM * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _describe(axes: Axes, unit: str, quantity: str) -> None:
    axes.set_xlabel({"Iters": "iteration", "Seconds": "seconds"}[unit])
    axes.set_ylabel(quantity[:1].lower() + quantity[1:])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none", loc="best").set_zorder(6)
