"""Builds `moments` in place: python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="moments", ext_modules=cythonize([Extension("moments", ["moments.pyx"])]))
