"""Builds `ensemble` in place: python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import Extension, setup

# No fused multiply-add: the products shall have the same bits wherever this is compiled.
flags = ["-O3", "-fopenmp", "-ffp-contract=off"]
extension = Extension("ensemble", ["ensemble.pyx"], extra_compile_args=flags, extra_link_args=["-fopenmp"])

setup(name="ensemble", ext_modules=cythonize([extension]))
