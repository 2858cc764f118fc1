"""Code that users bring along: the modules of their layers and solvers.

- `modules` finds and loads them, and says where Python looks for one that is not there.
- `caffe_name` makes this package answer to the name of caffe, which many of them import.
- `named_caffe` is a folder for `sys.path` with a package `caffe` in it: this one.
- `registry` knows layer and solver types by name, and asks installed packages for those that it does not know.
"""
