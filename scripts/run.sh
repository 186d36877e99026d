#!/usr/bin/env bash
# scripts/run.sh TABLE [options of scripts.grid]: run the grid of a published table, or continue it.
# scripts/run.sh: list the tables.
cd "$(dirname "$0")/.." || exit
python=python
[ -x .venv/bin/python ] && python=.venv/bin/python

if [ -f "configs/grids/${1:-}.yaml" ]; then
    exec "$python" -m scripts.grid "configs/grids/$1.yaml" "${@:2}"
fi
exec "$python" -m scripts.grid --list ${1:+"$1"} # all tables, or the nearest names of an unknown one
