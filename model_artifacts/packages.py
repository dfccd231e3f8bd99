"""The Python code of an installed model package: another's, so whatever it raises is told as the fault of that package.

One package that cannot be imported must not keep the others from being listed, checked or served, nor fail without a name.
Code is not signed; see `folder.py` for what is. Must not import the runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from model_artifacts.errors import ArtifactError, ModelError


@contextmanager
def code_of(package: str) -> Iterator[None]:
    """Runs a block of the package's own code.

    Raises:
        ArtifactError: whatever the block raised that is no ModelError, with the package's name; also where it tried to exit.
    """
    try:
        yield
    except ModelError:
        raise
    except (Exception, SystemExit) as exc:
        message = f"code of package {package} fails: {type(exc).__name__}: {exc}"
        raise ArtifactError(message, model_id=package.rpartition(".")[2]) from exc


def package_folder(package: str) -> Path:
    """Where the installed package lies, which imports it.

    Raises:
        ArtifactError: it can't be imported.
    """
    with code_of(package):
        return Path(str(files(package)))
