"""`import caffe` finds this if the folder around it is on `sys.path`: it is pycaffe_lite under that name.

Processes that `multiprocessing` starts inherit `sys.path`, so they find it too.
"""

from pycaffe_lite.user_code.caffe_name import stand_in

stand_in()
