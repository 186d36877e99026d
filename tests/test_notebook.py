"""The notebook of examples/ runs from top to bottom on a CPU, and learns."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_model.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_its_model_learns_the_digits():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    accuracies = [float(number) for number in re.findall(r"test accuracy ([\d.]+) %", printed)]
    assert accuracies[-1] > 90


def test_the_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
