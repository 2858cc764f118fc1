"""A picture of a directed graph without Graphviz: nodes laid out in ranks and drawn with Matplotlib.

`layout` gives the rank and position of each node. A graph that is much longer than wide is folded into rows, like text.

Lengths are inches. `main` runs along the edges, `cross` across them; only `_Canvas` knows the direction on the page.
`drawing` knows nothing about nets: see `draw.py`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from ..errors import CaffeError
from .layout import EDGE_GAP, Layout, arrange

DPI = 110
MAX_PIXELS_PER_SIDE = 32_000
MAX_PIXELS = 120_000_000
MAX_NAME = 60

RANK_GAP = 0.42
ROW_GAP = 0.55
FOLD_FROM = 30.0
MARGIN = 0.3
LINE_HEIGHT = 0.155
TRAY = 0.05
HEAD_LENGTH = 0.1
HEAD_WIDTH = 0.085

BOLD = FontProperties(family="sans-serif", weight="bold", size=8.5)
PLAIN = FontProperties(family="sans-serif", size=7.5)
TITLE = FontProperties(family="sans-serif", weight="bold", size=12)
MOVE, LINE, QUADRATIC, CUBIC = (int(code) for code in (Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE4))
INK = "#1d2730"
EDGE_INK = "#66737f"


@dataclass
class Box:
    """One rounded box (a layer) or octagon (a blob). `lines`: its text, the first in bold. `color`: `#rrggbb`."""

    lines: list[str]
    color: str
    octagon: bool = False
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.lines = [_one_line(line) for line in self.lines]
        fonts = [BOLD] + [PLAIN] * (len(self.lines) - 1)
        text = max(_text_width(line, font) for line, font in zip(self.lines, fonts, strict=True))
        self.width = max(text + (0.34 if self.octagon else 0.24), 0.55)
        self.height = len(self.lines) * LINE_HEIGHT + 0.14


# A node is one box, or a blob with the layers that work on it in place.
Node = list[Box]


def drawing(nodes: list[Node], edges: list[tuple[int, int]], rankdir: str, title: str = "", ext: str = "png") -> bytes:
    """The picture of an acyclic graph as the bytes of an image file.

    `edges`: pairs of indices into `nodes`. `rankdir`: LR, RL, TB or BT, the direction of the arrows. `ext`: a format that
    Matplotlib can write. Raises `CaffeError` for another format, and for a graph that is too tangled to lay out.
    """
    canvas = _Canvas(nodes, rankdir)
    layout = arrange(len(nodes), edges, [canvas.breadth(node) for node in nodes])
    lanes = _Lanes(layout, [canvas.length(node) for node in nodes])
    return canvas.paint(layout, lanes, title, ext)


# --------------------------------------------------------------------------------------------------- places on the page


class _Lanes:
    """The positions of ranks along the edges, and the row of each rank in a folded graph.

    Within a rank an edge is straight; it moves sideways only in the gap between two ranks, so no edge crosses a box.
    """

    def __init__(self, layout: Layout, lengths: list[float]):
        self.layout = layout
        self.node_length = lengths
        self.length = [max((lengths[i] for i in r if layout.is_node(i)), default=0.0) for r in layout.order]
        self.gap = [self._gap(r) for r in range(len(layout.order))]
        self.row = self._fold()
        self.start: list[float] = []
        for r, row in enumerate(self.row):
            new_row = r == 0 or row != self.row[r - 1]
            self.start.append(0.0 if new_row else self.start[-1] + self.length[r - 1] + self.gap[r - 1])
        self.extent = max((s + n for s, n in zip(self.start, self.length, strict=True)), default=0.0)
        self._stack_rows()

    def _gap(self, r: int) -> float:
        """The space after rank r: more if edges move far sideways, so that they are smooth."""
        cross, after = self.layout.cross, self.layout.after
        sideways = max((abs(cross[i] - cross[j]) for i in self.layout.order[r] for j in after[i]), default=0.0)
        return RANK_GAP + min(0.15 * sideways, 0.6)

    def _fold(self) -> list[int]:
        """The row of each rank. Rows end where few edges pass, at a length that gives a page of about 8 to 5."""
        total = sum(self.length) + sum(self.gap)
        low, high = self._bounds(range(len(self.length)))
        if total <= FOLD_FROM or total <= 3 * (high - low):
            return [0] * len(self.length)
        rows = max(2, round(math.sqrt(total / (1.6 * (high - low + ROW_GAP)))))
        result: list[int] = []
        for row in range(rows - 1):
            end = self._row_end(len(result), total / (rows - row))
            total -= sum(self.length[len(result) : end]) + sum(self.gap[len(result) : end])
            result += [row] * (end - len(result))
        return result + [rows - 1] * (len(self.length) - len(result))

    def _row_end(self, first: int, target: float) -> int:
        """The rank that starts the next row: one that few edges reach, about `target` inches from the row's start."""
        ends: list[tuple[int, float, int]] = []  # passing edges, distance from the target, rank
        walked = 0.0
        for r in range(first, len(self.length) - 1):
            walked += self.length[r] + self.gap[r]
            if walked > 1.15 * target and ends:
                break
            if walked > 0.85 * target:
                ends.append((self.passing(r), abs(walked - target), r + 1))
        return min(ends)[2] if ends else len(self.length) - 1

    def passing(self, r: int) -> int:
        """How many edges leave rank r."""
        return sum(len(self.layout.after[i]) for i in self.layout.order[r])

    def _bounds(self, ranks: range | list[int]) -> tuple[float, float]:
        cross, size = self.layout.cross, self.layout.size
        spans = [(cross[i] - size[i] / 2, cross[i] + size[i] / 2) for r in ranks for i in self.layout.order[r]]
        return min((s[0] for s in spans), default=0.0), max((s[1] for s in spans), default=0.0)

    def _stack_rows(self) -> None:
        """Moves each row below the previous one; edges from `row` to row + 1 run back at `channel[row]`."""
        self.channel: list[float] = []
        bottom = 0.0
        for row in range(self.row[-1] + 1 if self.row else 0):
            ranks = [r for r, its_row in enumerate(self.row) if its_row == row]
            low, high = self._bounds(ranks)
            if row:
                passing = self.passing(ranks[0] - 1)
                self.channel.append(bottom + ROW_GAP / 2)
                bottom += ROW_GAP + EDGE_GAP * (passing - 1)
            for r in ranks:
                for i in self.layout.order[r]:
                    self.layout.cross[i] += bottom - low
            bottom += high - low
        self.breadth = bottom

    def middle(self, i: int) -> float:
        r = self.layout.rank[i]
        return self.start[r] + self.length[r] / 2

    def ends(self, i: int) -> tuple[float, float]:
        """The points where an edge enters and leaves: a way-point is as long as its rank."""
        r = self.layout.rank[i]
        half = (self.node_length[i] if self.layout.is_node(i) else self.length[r]) / 2
        return self.middle(i) - half, self.middle(i) + half

    def edge(self, a: int, b: int, channel: int) -> list[tuple[int, float, float]]:
        """The edge from a to b in the next rank, as (Matplotlib path code, main, cross). `channel` numbers the edges."""
        rank, cross = self.layout.rank[a], self.layout.cross
        leave, enter = self.ends(a)[1], self.ends(b)[0]
        rank_end, next_start = self.start[rank] + self.length[rank], self.start[rank + 1]
        if not self.layout.is_node(a):
            leave -= self.length[rank]  # a way-point draws the edge across its rank
        head = HEAD_LENGTH * 0.8 if self.layout.is_node(b) else 0.0
        if self.row[rank] == self.row[rank + 1]:
            bend = 0.5 * (next_start - rank_end - head)
            return [
                (MOVE, leave, cross[a]),
                (LINE, rank_end, cross[a]),
                (CUBIC, rank_end + bend, cross[a]),
                (CUBIC, next_start - head - bend, cross[b]),
                (CUBIC, next_start - head, cross[b]),
                (LINE, enter - head, cross[b]),
            ]
        inner = EDGE_GAP * (self.passing(rank) - 1 - channel)  # the lowest edge turns first, so it crosses no other
        out, back = rank_end + 0.25 + inner, self.channel[self.row[rank]] + inner
        home = -0.35 - EDGE_GAP * channel
        corners = [(leave, cross[a]), (out, cross[a]), (out, back), (home, back), (home, cross[b])]
        return _rounded([*corners, (enter - head, cross[b])])


def _rounded(corners: list[tuple[float, float]], radius: float = 0.12) -> list[tuple[int, float, float]]:
    """A path along `corners` with rounded corners."""
    path = [(MOVE, *corners[0])]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        path.append((LINE, *_towards(corner, before, radius)))
        path.append((QUADRATIC, *corner))
        path.append((QUADRATIC, *_towards(corner, after, radius)))
    return [*path, (LINE, *corners[-1])]


def _towards(start: tuple[float, float], end: tuple[float, float], distance: float) -> tuple[float, float]:
    step = min(distance / (math.dist(start, end) or 1.0), 0.5)
    return start[0] + step * (end[0] - start[0]), start[1] + step * (end[1] - start[1])


# -------------------------------------------------------------------------------------------------------------- drawing


class _Canvas:
    """Converts (main, cross) to (x, y) for a direction, and draws."""

    def __init__(self, nodes: list[Node], rankdir: str):
        self.nodes = nodes
        self.across = rankdir in ("LR", "RL")
        self.sign = 1 if rankdir in ("LR", "BT") else -1
        self.blob_on_top = rankdir != "BT"

    def length(self, node: Node) -> float:
        return self._extent(node)[0 if self.across else 1]

    def breadth(self, node: Node) -> float:
        return self._extent(node)[1 if self.across else 0]

    def _extent(self, node: Node) -> tuple[float, float]:
        """Width and height of a node: those of its box, or of the tray with a blob and its layers."""
        width, height = max(box.width for box in node), sum(box.height for box in node)
        return (width, height) if len(node) == 1 else (width + 2 * TRAY, height + (len(node) + 1) * TRAY)

    def _xy(self, main: float, cross: float) -> tuple[float, float]:
        return (self.sign * main, -cross) if self.across else (cross, self.sign * main)

    def paint(self, layout: Layout, lanes: _Lanes, title: str, ext: str) -> bytes:
        self.figure = Figure()
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._paint_edges(layout, lanes)
        for i, node in enumerate(self.nodes):
            self._paint_node(node, *self._xy(lanes.middle(i), layout.cross[i]))
        folds = 0.5 + EDGE_GAP * max((lanes.passing(r) for r in _row_ends(lanes.row)), default=0)
        beyond = folds if len(lanes.channel) else 0.0
        self._frame(self._xy(-beyond, 0.0), self._xy(lanes.extent + beyond, lanes.breadth), title)
        return self._save(ext)

    def _paint_edges(self, layout: Layout, lanes: _Lanes) -> None:
        paths, heads = [], []
        for members in layout.order:
            channel = 0
            for i in members:
                for j in layout.after[i]:
                    steps = lanes.edge(i, j, channel)
                    channel += 1
                    paths.append(Path([self._xy(m, c) for _, m, c in steps], [code for code, _, _ in steps]))
                    if layout.is_node(j):
                        heads.append(self._head(lanes.ends(j)[0], layout.cross[j]))
        lines = PathCollection(paths, facecolors="none", edgecolors=EDGE_INK, linewidths=1.1, capstyle="round", zorder=1)
        self.axes.add_collection(lines, autolim=False)
        self.axes.add_collection(PolyCollection(heads, facecolors=EDGE_INK, zorder=2), autolim=False)

    def _head(self, main: float, cross: float) -> list[tuple[float, float]]:
        base = main - HEAD_LENGTH
        return [
            self._xy(main, cross),
            self._xy(base, cross - HEAD_WIDTH / 2),
            self._xy(base, cross + HEAD_WIDTH / 2),
        ]

    def _paint_node(self, node: Node, x: float, y: float) -> None:
        width, height = self._extent(node)
        if len(node) > 1:
            self._rounded_box(x, y, width, height, "#f4f5f2", "#b9c2b3", 0.08, zorder=2.5)
        top = y + height / 2 - (TRAY if len(node) > 1 else 0.0)
        for box in node if self.blob_on_top else reversed(node):
            self._paint_box(box, x, top - box.height / 2)
            top -= box.height + TRAY

    def _paint_box(self, box: Box, x: float, y: float) -> None:
        fill, line = _mix(box.color, "#ffffff", 0.52), _mix(box.color, "#202020", 0.35)
        if box.octagon:
            corners = _octagon(x, y, box.width, box.height)
            self.axes.add_patch(Polygon(corners, facecolor=fill, edgecolor=line, linewidth=0.9, zorder=3))
        else:
            self._rounded_box(x, y, box.width, box.height, fill, line, 0.06, zorder=3)
        for n, line_text in enumerate(box.lines):
            line_y = y + ((len(box.lines) - 1) / 2 - n) * LINE_HEIGHT
            self._text(x, line_y, line_text, BOLD if n == 0 else PLAIN, ha="center")

    def _rounded_box(
        self, x: float, y: float, w: float, h: float, fill: str, line: str, radius: float, zorder: float
    ) -> None:
        style = f"round,pad=0,rounding_size={radius}"
        corner = (x - w / 2, y - h / 2)
        box = FancyBboxPatch(corner, w, h, boxstyle=style, facecolor=fill, edgecolor=line, linewidth=0.9, zorder=zorder)
        self.axes.add_patch(box)

    def _text(self, x: float, y: float, text: str, font: FontProperties, ha: str) -> None:
        artist = Text(x, y, text, fontproperties=font, color=INK, ha=ha, va="center_baseline", parse_math=False)
        artist.set_zorder(4)
        self.axes.add_artist(artist)

    def _frame(self, corner: tuple[float, float], opposite: tuple[float, float], title: str) -> None:
        left, right = sorted((corner[0], opposite[0]))
        low, high = sorted((corner[1], opposite[1]))
        if title:
            title = _one_line(title)
            self._text(left, high + 0.3, title, TITLE, ha="left")
            right = max(right, left + _text_width(title, TITLE))
            high += 0.45
        self.axes.set_xlim(left - MARGIN, right + MARGIN)
        self.axes.set_ylim(low - MARGIN, high + MARGIN)
        self.figure.set_size_inches(right - left + 2 * MARGIN, high - low + 2 * MARGIN)

    def _save(self, ext: str) -> bytes:
        formats = self.figure.canvas.get_supported_filetypes()
        if ext not in formats:
            raise CaffeError(f'no image format "{ext}" without Graphviz: use one of {", ".join(sorted(formats))}')
        width, height = self.figure.get_size_inches()
        dpi = min(DPI, MAX_PIXELS_PER_SIDE / max(width, height), math.sqrt(MAX_PIXELS / (width * height)))
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=ext, dpi=dpi, facecolor="white")
        return buffer.getvalue()


def _row_ends(row: list[int]) -> list[int]:
    return [r for r in range(len(row) - 1) if row[r] != row[r + 1]]


def _octagon(x: float, y: float, w: float, h: float, cut: float = 0.09) -> list[tuple[float, float]]:
    w, h = w / 2, h / 2
    signs = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    corners = []
    for sx, sy in signs:
        side, top = (x + sx * w, y + sy * (h - cut)), (x + sx * (w - cut), y + sy * h)
        corners += [side, top] if sx == sy else [top, side]
    return corners


def _mix(color: str, other: str, share: float) -> str:
    mixed = [round(255 * ((1 - share) * c + share * o)) for c, o in zip(to_rgb(color), to_rgb(other), strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _text_width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def _one_line(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"
