"""Training logs: what the parser finds in logs of this package and of Caffe, and what the charts show."""

import math

import pytest

from pycaffe_lite.cli import call, plot_training_log
from pycaffe_lite.errors import DataError
from pycaffe_lite.plots.training_curves import CHART_TYPES, LOSSES, plot, smoothed
from pycaffe_lite.plots.training_log import parse

LOG = """\
I1231 23:59:50.000000  4711 net.cpp:255] Network initialization done.
I1231 23:59:58.500000  4711 solver.cpp:282] Solving mnist_siamese
I1231 23:59:59.000000  4711 solver.cpp:341] Iteration 0, Testing net (#0)
I1231 23:59:59.500000  4711 solver.cpp:409]     Test net output #0: loss = 0.207 (* 1 = 0.207 loss)
I1231 23:59:59.500000  4711 solver.cpp:409]     Test net output #1: accuracy = 0.11
I1231 23:59:59.600000  4711 solver.cpp:239] Iteration 0 (0 iter/s, 0.4s/100 iters), loss = 0.3
I1231 23:59:59.600000  4711 solver.cpp:258]     Train net output #0: loss = 0.31 (* 1 = 0.31 loss)
I1231 23:59:59.600000  4711 sgd_solver.cpp:112] Iteration 0, lr = 0.01
I0101 00:00:01.250000  4711 solver.cpp:239] Iteration 100, loss = 0.0342
I0101 00:00:01.250000  4711 solver.cpp:258]     Train net output #0: loss = nan (* 1 = nan loss)
I0101 00:00:01.250000  4711 sgd_solver.cpp:112] Iteration 100, lr = 1e-05
I0101 00:00:02.000000  4711 solver.cpp:341] Iteration 100, Testing net (#0)
I0101 00:00:02.500000  4711 solver.cpp:409]     Test net output #0: loss = 0.0285 (* 1 = 0.0285 loss)
I0101 00:00:02.500000  4711 solver.cpp:409]     Test net output #1: accuracy = 0.905
"""


def test_parses_losses_rates_outputs_and_seconds_across_new_year():
    log = parse(LOG)
    assert [(r.iteration, r.seconds, r.loss, r.learning_rate) for r in log.train] == [
        (0, 1.1, 0.3, 0.01),
        (100, 2.75, 0.0342, 1e-05),
    ]
    assert log.train[0].outputs == {"loss": 0.31}
    assert math.isnan(log.train[1].outputs["loss"])
    assert [(r.iteration, r.net, r.outputs) for r in log.test] == [
        (0, 0, {"loss": 0.207, "accuracy": 0.11}),
        (100, 0, {"loss": 0.0285, "accuracy": 0.905}),
    ]
    assert log.losses == {"loss"}


def test_parses_lines_without_stamps_and_passes_over_broken_ones():
    log = parse("Iteration 7, loss = 0.5\nIteration 8, lr = 0.1\nIteration 9, loss = 1.2.3\nIteration 10, lo\n")
    assert [(r.iteration, r.seconds) for r in log.train] == [(7, None), (8, None), (9, None)]
    assert log.train[0].loss == 0.5
    assert math.isnan(log.train[1].loss)
    assert log.train[1].learning_rate == 0.1
    assert math.isnan(log.train[2].loss)
    assert parse("I9999 99:99:99.000000 1 x] Iteration 7, loss = 0.5").train[0].seconds is None


def test_outputs_go_to_the_test_net_that_is_announced():
    text = "\n".join(f"Iteration 5, Testing net (#{n})\n  Test net output #0: l{n} = {n}.5" for n in range(2))
    assert [(r.net, r.outputs) for r in parse(text).test] == [(0, {"l0": 0.5}), (1, {"l1": 1.5})]


def test_smoothed_is_the_mean_of_what_is_finite():
    assert smoothed([1, 2, 3, math.nan, 5], 3) == [1.5, 2, 2.5, 4, 5]
    assert math.isnan(smoothed([math.nan], 3)[0])


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, [(0, 0.11), (100, 0.905)]),
        (1, [(0.5, 0.11), (3.5, 0.905)]),
        (2, [(0, 0.207), (100, 0.0285)]),
        (3, [(0.5, 0.207), (3.5, 0.0285)]),
        (4, [(0, 0.01), (100, 1e-05)]),
        (5, [(1.1, 0.01), (2.75, 1e-05)]),
        (6, [(0, 0.3), (100, 0.0342)]),
        (7, [(1.1, 0.3), (2.75, 0.0342)]),
    ],
)
def test_charts_show_the_points_of_the_log(number, expected):
    axes = plot(CHART_TYPES[number], {"run": parse(LOG)})
    (line,) = axes.get_lines()
    assert [tuple(point) for point in line.get_xydata()] == expected
    assert axes.get_title("left") == CHART_TYPES[number]


def test_losses_shows_training_test_and_a_rate_that_changes():
    axes = plot(LOSSES, {"run": parse(LOG)}, title="siamese", note="synthetic digits")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training loss", "test loss", "learning rate"]
    assert (axes.get_title("left"), axes.get_title("right")) == ("siamese", "synthetic digits")
    constant = plot(LOSSES, {"run": parse(LOG.replace("lr = 1e-05", "lr = 0.01"))})
    assert len(constant.get_figure().axes) == 1


def test_a_long_run_gets_a_smoothed_line():
    text = "\n".join(f"Iteration {i}, loss = {1 + i % 2}" for i in range(200))
    raw, smooth = plot(LOSSES, {"run": parse(text)}).get_lines()
    assert set(raw.get_ydata()) == {1, 2}
    assert all(1.4 < y < 1.6 for y in smooth.get_ydata()[10:-10])


def test_a_log_that_starts_again_does_not_draw_a_line_backwards():
    log = parse("Iteration 10, loss = 3\nIteration 20, loss = 2\nIteration 10, loss = 1")
    (line,) = plot(CHART_TYPES[6], {"run": log}).get_lines()
    assert math.isnan(line.get_ydata()[2])


def test_the_command_takes_the_arguments_of_caffe_and_writes_the_picture(tmp_path, capsys):
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    for path in logs:
        path.write_text(LOG)
    out = tmp_path / "out.png"
    for kind in ("6", "losses"):
        assert call(plot_training_log.main, [kind, str(out), *map(str, logs)]) == 0
        assert out.read_bytes().startswith(b"\x89PNG")
        out.unlink()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["8", "out.png", "run.log"], "expected 0 to 7"),
        (["loses", "out.png", "run.log"], 'did you mean "losses"'),
        (["6", "out.xyz", "run.log"], "image format"),
        (["6", "out.png", "missing.log"], "missing.log"),
        (["6", "out.png", "run.log"], "nothing for the chart"),
    ],
)
def test_mistakes_are_told_in_one_line(argv, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.log").write_text("hello\n")
    assert call(plot_training_log.main, argv) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_an_empty_log_has_no_losses():
    with pytest.raises(DataError, match='"run" has no losses'):
        plot(LOSSES, {"run": parse("")})
