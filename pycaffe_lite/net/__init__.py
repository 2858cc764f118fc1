"""From a NetParameter to a net that runs: `filter` -> `splits` -> `build` -> `net`, and its trained `weights`."""

from .net import Net

__all__ = ["Net"]
