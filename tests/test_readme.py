"""The README's Python runs, and its links lead to files. Its table of layers is in test_docs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text("utf-8")


def test_python_example(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    leave = shutil.ignore_patterns("*_leveldb")
    shutil.copytree(REPOSITORY / "examples/siamese", tmp_path / "examples/siamese", ignore=leave)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(8, 2) [(20, 1, 5, 5), (20,)]\n"


def test_files_that_are_linked_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README):
        assert (REPOSITORY / "".join(target)).exists(), target
