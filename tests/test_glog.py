"""The log: lines that Caffe's own scripts can read, on stderr and in files, and what hides them."""

from __future__ import annotations

import datetime
import io
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pycaffe_lite import glog

# What Caffe's parse_log.py and extract_seconds.py take lines apart with.
LINE = re.compile(r"^([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) +(\d+) (\S+):(\d+)\] (.*)$")
ITERATION = re.compile(r"Iteration (\d+)")
TRAIN_OUTPUT = re.compile(r"Train net output #(\d+): (\S+) = ([\.\deE+-]+)")
LEARNING_RATE = re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)")


@pytest.fixture(autouse=True)
def _level():
    with glog.kept_settings():
        glog.configure(minloglevel=0)
        yield
    glog.quiet_stderr(False)


def severities(text: str) -> str:
    return "".join(line[0] for line in text.splitlines())


def log_all() -> None:
    glog.info("one")
    glog.warning("two")
    glog.error("three")


def test_a_line_has_severity_date_time_thread_file_and_number(capsys):
    before = datetime.datetime.now()
    glog.info("Iteration 100, lr = 0.01")
    after = datetime.datetime.now()
    out, line = capsys.readouterr()
    assert out == ""
    letter, month, day, hour, minute, second, fraction, thread, file, number, message = LINE.match(line).groups()
    assert (letter, message) == ("I", "Iteration 100, lr = 0.01")
    time = before.replace(
        month=int(month), day=int(day), hour=int(hour), minute=int(minute), second=int(second), microsecond=int(fraction)
    )
    assert before - datetime.timedelta(milliseconds=2) <= time <= after  # some Pythons keep milliseconds only
    assert int(thread) == threading.get_native_id()
    assert file == os.path.basename(__file__)
    assert "glog.info(" in Path(__file__).read_text().splitlines()[int(number) - 1]


def test_every_severity_has_its_letter_and_names_the_caller(capsys):
    log_all()
    lines = capsys.readouterr().err.splitlines()
    assert [(LINE.match(line)[1], LINE.match(line)[11]) for line in lines] == [("I", "one"), ("W", "two"), ("E", "three")]
    assert {LINE.match(line)[9] for line in lines} == {os.path.basename(__file__)}


def test_caffes_scripts_find_what_they_look_for(capsys):
    glog.info("Iteration 100, lr = 1e-05")
    glog.info("    Train net output #0: loss = 2.5e-07 (* 1 = 2.5e-07 loss)")
    first, second = capsys.readouterr().err.splitlines()
    assert ITERATION.search(first)[1] == "100"
    assert LEARNING_RATE.search(first)[1] == "1e-05"
    assert TRAIN_OUTPUT.search(second).groups() == ("0", "loss", "2.5e-07")
    words = first.split()  # as extract_seconds.py
    assert (int(words[0][1:3]), int(words[0][3:]), words[1].count(":")) == (
        datetime.date.today().month,
        datetime.date.today().day,
        2,
    )


def test_a_message_is_no_format(capsys):
    glog.info("100% of %s {x}")
    assert capsys.readouterr().err.endswith("] 100% of %s {x}\n")


@pytest.mark.parametrize(("level", "shown"), [(-1, "IWE"), (0, "IWE"), (1, "WE"), (2, "E"), (3, ""), (99, "")])
def test_min_level(level, shown, capsys):
    glog.set_min_level(level)
    log_all()
    assert severities(capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [("0", "IWE"), ("2", "E"), ("3", ""), ("", "IWE"), ("nonsense", "IWE"), (None, "IWE")]
)
def test_min_level_from_the_environment(value, shown):
    variables = {name: text for name, text in os.environ.items() if name != "GLOG_minloglevel"}
    if value is not None:
        variables["GLOG_minloglevel"] = value
    program = "from pycaffe_lite import glog; glog.info('1'); glog.warning('2'); glog.error('3')"
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, severities(done.stderr)) == (0, "", shown)


# ---- glog's settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shown", "written"),
    [
        ({}, "IWE", ""),
        ({"log_dir": "logs"}, "IWE", "IWE"),  # Caffe's command also logs to stderr
        ({"log_dir": "logs", "logtostderr": True}, "IWE", ""),
        ({"log_dir": "logs", "alsologtostderr": False}, "E", "IWE"),
        ({"log_dir": "logs", "alsologtostderr": False, "stderrthreshold": 1}, "WE", "IWE"),
        ({"log_dir": "logs", "alsologtostderr": False, "stderrthreshold": 4}, "", "IWE"),
        ({"log_dir": "logs", "minloglevel": 1}, "WE", "WE"),
        ({"alsologtostderr": False}, "E", ""),
        ({"alsologtostderr": False, "logtostderr": True}, "IWE", ""),
    ],
)
def test_where_the_log_goes(settings, shown, written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with glog.kept_settings():
        glog.configure(**settings)
        log_all()
    glog.info("again as before")
    assert severities(capsys.readouterr().err) == shown + "I"
    file = Path("logs", "pycaffe_lite.INFO" if "I" in written else "pycaffe_lite.WARNING")
    lines = file.read_text().splitlines() if written else []
    assert "".join(line[0] for line in lines if LINE.match(line)) == written


def test_files_are_named_and_begin_as_glogs(tmp_path):
    with glog.kept_settings():
        glog.configure(log_dir=str(tmp_path / "new" / "logs"))
        assert list((tmp_path / "new" / "logs").iterdir()) == []  # each comes with its first line
        glog.info("one")
        path = Path(glog.log_file())
        glog.warning("two")
    name = r"pycaffe_lite\.[^/]+\.[^/]+\.log\.{}\.\d{{8}}-\d{{6}}\." + str(os.getpid())
    links = {link.name: link.resolve() for link in path.parent.iterdir() if link.is_symlink()}
    assert set(links) == {"pycaffe_lite.INFO", "pycaffe_lite.WARNING"}
    assert links["pycaffe_lite.INFO"] == path.resolve()
    for severity in ("INFO", "WARNING"):
        assert re.fullmatch(name.format(severity), links[f"pycaffe_lite.{severity}"].name)
    created, machine, format, one, two = path.read_text().splitlines()
    assert re.fullmatch(r"Log file created at: \d{4}/\d\d/\d\d \d\d:\d\d:\d\d", created)
    assert machine.startswith("Running on machine: ")
    assert format == "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg"
    assert (LINE.match(one)[11], LINE.match(two)[11]) == ("one", "two")
    assert severities(links["pycaffe_lite.WARNING"].read_text()).endswith("W")
    assert glog.log_file() is None


@pytest.mark.parametrize(
    ("variables", "shown", "written"),
    [
        ({}, "IWE", 0),
        ({"GLOG_log_dir": "logs"}, "IWE", 3),
        ({"GLOG_log_dir": "logs", "GLOG_logtostderr": "1"}, "IWE", 0),
        ({"GLOG_log_dir": "logs", "GLOG_alsologtostderr": "0"}, "E", 3),
        ({"GLOG_alsologtostderr": "no", "GLOG_stderrthreshold": "1"}, "WE", 0),
        ({"GLOG_alsologtostderr": "no", "GLOG_logtostderr": "yes"}, "IWE", 0),
        ({"GLOG_log_dir": "file/logs"}, "WIWE", 0),
    ],
)
def test_settings_from_the_environment(variables, shown, written, tmp_path):
    (tmp_path / "file").write_text("")
    program = "from pycaffe_lite import glog; glog.info('1'); glog.warning('2'); glog.error('3')"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("GLOG_")}
    inherited["PYTHONPATH"] = os.pathsep.join([str(Path(glog.__file__).parents[1]), inherited.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, severities(done.stderr)) == (0, shown)
    assert len(list((tmp_path / "logs").glob("*.log.*"))) == written


def test_a_log_dir_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    before = glog.settings()
    with pytest.raises(OSError, match="file"):
        glog.configure(minloglevel=2, log_dir=str(tmp_path / "file" / "logs"))
    assert glog.settings() == before


def test_quiet_stderr_and_the_threshold_add_up(capsys):
    glog.configure(alsologtostderr=False)
    glog.quiet_stderr()
    glog.quiet_stderr(False)
    log_all()
    assert severities(capsys.readouterr().err) == "E"


# ---- files of one's own -------------------------------------------------------------------------------------------


def test_a_file_gets_the_log_too_until_its_handler_goes(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "train.log"
    handler = glog.to_file(path)
    try:
        log_all()
    finally:
        glog.logger.removeHandler(handler)
        handler.close()
    glog.info("later")
    lines = path.read_text().splitlines()
    assert all(map(LINE.match, lines))
    assert severities(path.read_text()) == "IWE"
    assert severities(capsys.readouterr().err) == "IWEI"


def test_quiet_stderr_keeps_the_file_complete(tmp_path, capsys):
    handler = glog.to_file(tmp_path / "train.log")
    try:
        glog.quiet_stderr()
        log_all()
        glog.quiet_stderr(False)
        glog.info("again")
    finally:
        glog.logger.removeHandler(handler)
        handler.close()
    assert severities((tmp_path / "train.log").read_text()) == "IWEI"
    assert severities(capsys.readouterr().err) == "WEI"


def test_todays_stderr_is_used(monkeypatch):
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    glog.info("hello")
    assert other.getvalue().endswith("] hello\n")


def test_the_root_logger_gets_nothing(capsys):
    root, lines = logging.getLogger(), []
    handler = logging.Handler()
    handler.emit = lines.append
    root.addHandler(handler)
    try:
        glog.error("once")
    finally:
        root.removeHandler(handler)
    assert lines == []
    assert len(capsys.readouterr().err.splitlines()) == 1
