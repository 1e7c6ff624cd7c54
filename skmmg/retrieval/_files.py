"""A folder with arrays, files of engines and a manifest of checksums; replaced in one step."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = "manifest.json"
_FORMAT = 1
_OURS = re.compile(r"\w+-[0-9a-f]{16}\.(npy|faiss)|\.skmmg-\w+\.partial")


def write_parts(folder: Path, about: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Write all parts under new names, then the manifest that names them, then drop the old ones.

    A part is an array, or a function that writes a file of the given path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: _write_part(folder, name, part) for name, part in parts.items()}
    manifest = {"skmmg": "vector index", "format": _FORMAT, **about, "files": files}

    def write(path: str) -> None:
        Path(path).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    os.replace(_write_synced(folder, write), folder / MANIFEST)
    kept = {MANIFEST, *(file["file"] for file in files.values())}
    for path in folder.iterdir():
        if path.name not in kept and _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_manifest(folder: Path, verify: bool) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return the manifest and the path of each part, after a look at their checksums."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} must hold a saved index, but it has no {MANIFEST}.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files, _, _ = (manifest[key] for key in ("format", "files", "index", "options"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged. Save the index again.") from error
    if version != _FORMAT:
        raise ValueError(
            f"{path} has format {version!r}, this version of skmmg reads format {_FORMAT}. Save "
            f"the index again."
        )
    for file in files.values():
        _check_part(folder / Path(file["file"]).name, file, verify)
    return manifest, {name: folder / Path(file["file"]).name for name, file in files.items()}


def open_parts(files: Mapping[str, Path], mmap: bool) -> dict[str, NDArray[Any]]:
    """Open the arrays among the parts; memory-mapped ones may be written to, the file may not."""
    return {
        name: np.load(path, mmap_mode="c" if mmap else None)
        for name, path in files.items()
        if path.suffix == ".npy"
    }


def _write_part(folder: Path, name: str, part: Any) -> dict[str, Any]:
    """Write one file, named after its content."""
    is_array = isinstance(part, np.ndarray)

    def save_array(path: str) -> None:
        with open(path, "wb") as stream:
            np.save(stream, part)

    temporary = _write_synced(folder, save_array if is_array else part)
    digest, size = _digest(temporary), temporary.stat().st_size
    file = f"{name}-{digest[:16]}.{'npy' if is_array else 'faiss'}"
    os.replace(temporary, folder / file)
    return {"file": file, "bytes": size, "sha256": digest}


def _write_synced(folder: Path, write: Callable[[str], None]) -> Path:
    """Write a temporary file in the folder, down to the disk."""
    handle, name = mkstemp(dir=folder, prefix=".skmmg-", suffix=".partial")
    os.close(handle)
    try:
        write(name)
        with open(name, "rb+") as stream:
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_part(path: Path, file: Mapping[str, Any], verify: bool) -> None:
    """Raise unless the file is the one that was saved."""
    if not path.is_file():
        raise ValueError(f"{path} of the saved index is missing. Save the index again.")
    is_same = path.stat().st_size == file["bytes"]
    if is_same and verify:
        is_same = _digest(path) == file["sha256"]
    if not is_same:
        raise ValueError(
            f"{path} has changed since the index was saved: its checksum is not the one in "
            f"{MANIFEST}. Save the index again."
        )
