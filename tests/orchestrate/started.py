"""Runs the file that it is given, for tests of processes that are started by a module's name."""

import runpy
import sys

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
