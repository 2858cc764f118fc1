"""What `import caffe` finds where the folder around this one is on `sys.path`: pycaffe_lite, under that name.

Processes that `multiprocessing` starts have the `sys.path` of the one that started them, so they find it as well.
"""

from pycaffe_lite.user_code.caffe_name import stand_in

stand_in()
