"""List the kernels and the devices they have a body for: pycaffe_lite kernels [--missing DEVICE]

Everything that is not a kernel is array code, which runs on every device.
"""

from __future__ import annotations

from .. import layer_types, solver  # noqa: F401  brings in all kernels
from ..device import KERNELS
from ._flags import Flags


def main(argv: list[str]) -> int:
    flags = Flags("kernels", __doc__)
    flags.flag("missing", default="", help="only those that lack a body for this device, such as cuda")
    values = flags.parse(argv)
    for kernel in sorted(KERNELS, key=lambda kernel: (kernel.host_body.__module__, kernel.__name__)):
        if values.missing not in ("cpu", *kernel.bodies):
            place = kernel.host_body.__module__.removeprefix("pycaffe_lite.")
            print(f"{place}.{kernel.__name__}: {', '.join(['cpu', *kernel.bodies])}")
    return 0
