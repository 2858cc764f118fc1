"""The layer types: one file each, named after its type (`InnerProduct` is in `inner_product.py`).

Importing this package registers them all. Files that begin with `_` are shared bases.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
