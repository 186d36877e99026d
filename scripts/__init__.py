"""Programs that accompany train.py; benchmarks and generators of documentation have folders."""

from lib.core.errors import require_packages

require_packages()
