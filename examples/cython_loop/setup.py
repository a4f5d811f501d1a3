"""Builds `ensemble` in place: python setup.py build_ext --inplace"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastnn

# No fused multiply-add: the products shall have the same bits wherever this is compiled.
flags = ["-O3", "-fopenmp", "-ffp-contract=off"]
extension = Extension("ensemble", ["ensemble.pyx"], extra_compile_args=flags, extra_link_args=["-fopenmp"])

setup(
    name="ensemble",
    # Where fastnn/kernels.pxd is; Cython finds it by itself unless fastnn is an editable install.
    ext_modules=cythonize([extension], include_path=[str(Path(fastnn.__file__).parents[1])]),
)
