"""List the operations and the devices they have a body for: pycaffe_lite kernels [--missing DEVICE]

Layers compute with operations, or with array code, which runs on every device. An elementwise operation is one expression,
from which every device gets its loop.
"""

from __future__ import annotations

from .. import layer_types, solver  # noqa: F401  brings in all operations
from ..device import OPERATIONS, Elementwise
from ._flags import Flags

GROUP = "ours"


def main(argv: list[str]) -> int:
    flags = Flags("kernels", __doc__)
    flags.flag("missing", default="", help="only those that lack a body for this device, such as cuda")
    values = flags.parse(argv)
    for name, operation in sorted(OPERATIONS.items()):
        devices = ["any"] if isinstance(operation, Elementwise) else list(operation.bodies)
        if values.missing not in devices and not (values.missing and "any" in devices):
            print(f"{name}: {', '.join(devices)}")
    return 0
