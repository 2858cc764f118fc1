"""Old scripts: this package under the name of caffe, scripts and notebooks run unchanged, names that were removed since."""
