"""Code that users provide: the modules of their layers and solvers.

- `modules` finds and loads them, and says where Python looks for a missing module.
- `caffe_name` lets this package be imported as `caffe`, which many of these modules do.
- `named_caffe` is a folder for `sys.path` with a package `caffe`, which is this package.
- `registry` finds layer and solver types by name, and loads unknown ones from installed packages.
"""
