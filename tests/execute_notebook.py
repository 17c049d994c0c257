"""Run a notebook from top to bottom in a fresh kernel: IN.ipynb OUT.ipynb FOLDER.

A process of its own, because the tools of notebooks leave sockets open and warn of it at the end.
Sockets are files in FOLDER, whose path must be short: two runs never ask for the same port.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

CELL_TIMEOUT_S = 600  # a cold cache of compiled code takes minutes on a slow machine


def main(book: Path, output: Path, folder: Path) -> None:
    """Write the notebook with the outputs of its run, which takes place in its own folder."""
    content = nbformat.read(book, as_version=4)
    config = Config()
    config.KernelManager.transport = "ipc"
    config.KernelManager.connection_file = str(folder / "kernel.json")
    where = {"metadata": {"path": str(book.parent)}}
    client = NotebookClient(content, timeout=CELL_TIMEOUT_S, resources=where, config=config)
    client.execute()
    nbformat.write(content, output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
