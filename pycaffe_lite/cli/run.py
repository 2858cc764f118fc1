"""Run a pycaffe script without changing it: pycaffe_lite run script.py args...

`pycaffe_lite run -m module args...` runs a module, `pycaffe_lite run notebook.ipynb` executes a notebook in its folder and
writes `notebook.nbconvert.ipynb` beside it (this needs: pip install nbclient ipykernel).

In that process, and in Python processes that it starts, `import caffe` (and `caffe.io`, `caffe.proto.caffe_pb2`, ...) means
pycaffe_lite, and names that Python and libraries have removed work again: `np.int`, `scipy.misc.imresize`,
`Image.ANTIALIAS`, `TestCase.assertEquals`, ...

Python 2 is converted in memory, and the log says so: scripts, modules beside them and on PYTHONPATH, cells of notebooks.
docs/migration.md says what is converted and what is not.

Flags of the log come before the script: -minloglevel, -logtostderr, -alsologtostderr, -stderrthreshold, -log_dir. They can
also be set in the environment, which notebooks and other processes read too: GLOG_minloglevel=2.
"""

from __future__ import annotations

import sys

from ..compat.run import run
from ._flags import Flags

GROUP = "ours"


def main(argv: list[str]) -> int:
    argv = _apply_log_flags(argv)
    script_argv = argv[1:] if argv[:1] == ["-m"] else argv
    if not script_argv or script_argv[0] in ("-h", "-help", "--help"):
        print(__doc__, file=sys.stdout if script_argv else sys.stderr)
        return 0 if script_argv else 2
    return run(argv)


def _apply_log_flags(argv: list[str]) -> list[str]:
    """Applies the flags in front of the script and returns the rest."""
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-m", "-h", "-help", "--help"):
        alone = "=" in argv[at] or argv[at].endswith("logtostderr")
        at += 1 if alone else 2
    Flags("run", __doc__).parse(argv[:at])
    return argv[at:]
