"""The notebook in docs/ runs from its first cell to its last, and learns what it says it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "three-facts.ipynb"


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
    assert sum(cell["cell_type"] == "code" for cell in cells) > 5


@pytest.mark.slow
def test_the_notebook_teaches_three_facts(tmp_path: Path, users_cache: None) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    epochs = [line for line in said.splitlines() if line.startswith("epoch ")]
    learned = [float(line.split("learned ")[1].split(",")[0]) for line in epochs]
    assert len(learned) == 13
    assert learned[-1] > learned[0] + 0.4
    assert "facts were known before and are not any more" in said
    assert "adapter_model.safetensors" in str(notebook)
    assert "The harbour of Vellmouth was designed by" in str(notebook.cells[-2].outputs)
