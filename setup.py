"""The folder `lib` is installed as the package `cifar_zoo`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=["cifar_zoo", *(f"cifar_zoo.{name}" for name in find_packages("lib"))],
    package_dir={"cifar_zoo": "lib"},
    package_data={"cifar_zoo": ["**/*.csv", "**/*.css", "**/*.html", "**/*.js", "**/*.json", "**/*.npz"]},
)
