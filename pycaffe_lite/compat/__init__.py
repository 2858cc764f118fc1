"""For old scripts: this package as `caffe`, running scripts and notebooks unchanged, and names that have been removed."""
