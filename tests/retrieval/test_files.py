"""A saved index: the same results, one step, and no change goes unnoticed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skmmg.retrieval import _files, load_index, make_index


@pytest.fixture
def folder(data: Any, tmp_path: Path) -> Path:
    make_index().fit(data.gallery, np.arange(3000) * 2).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("mmap", [True, False])
def test_a_saved_index_finds_the_same(data: Any, folder: Path, mmap: bool) -> None:
    expected = make_index().fit(data.gallery, np.arange(3000) * 2).search(data.queries, 5)

    index = load_index(folder, mmap=mmap)

    np.testing.assert_array_equal(index.search(data.queries, 5), expected)
    assert isinstance(index._buffer, np.memmap) == mmap


def test_adding_to_an_index_in_a_file_changes_no_file(data: Any, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    index = load_index(folder).add(data.gallery[:5], [1, 3, 5, 7, 9])

    assert len(index) == 3005
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_open_index_can_be_saved_over_itself(data: Any, folder: Path) -> None:
    index = load_index(folder).add(data.gallery[:1], [1])
    expected = index.search(data.queries, 5)

    index.save(folder)

    assert len(list(folder.iterdir())) == 3  # nothing old is left
    np.testing.assert_array_equal(load_index(folder).search(data.queries, 5), expected)


@pytest.mark.parametrize("part", ["vectors", "ids"])
def test_a_gallery_that_changed_is_noticed(folder: Path, part: str) -> None:
    (path,) = folder.glob(f"{part}-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(ValueError, match="has changed since the index was saved"):
        load_index(folder)
    assert len(load_index(folder, verify=False)) == 3000


def test_a_gallery_that_was_cut_is_noticed_even_without_checksums(folder: Path) -> None:
    (path,) = folder.glob("vectors-*")
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(ValueError, match="has changed"):
        load_index(folder, verify=False)


def test_a_missing_part_is_noticed(folder: Path) -> None:
    next(folder.glob("ids-*")).unlink()

    with pytest.raises(ValueError, match="is missing"):
        load_index(folder)


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must hold a saved index"):
        load_index(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "no json"])
def test_a_damaged_manifest_is_told(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match="is damaged"):
        load_index(folder)


@pytest.mark.parametrize("key", ["files", "index", "options"])
def test_a_manifest_that_lacks_a_part_is_told(folder: Path, key: str) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest), encoding="utf-8")

    with pytest.raises(ValueError, match="is damaged"):
        load_index(folder)


def test_another_format_is_told(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}), encoding="utf-8")

    with pytest.raises(ValueError, match="format 99"):
        load_index(folder)


@pytest.mark.parametrize("n_done", range(6))
def test_a_crash_while_saving_leaves_the_old_index(
    data: Any, folder: Path, n_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_index(folder).search(data.queries, 5)
    steps = iter(range(n_done))

    def fail_after(function: Any) -> Any:
        def call(*args: Any) -> Any:
            if next(steps, None) is None:
                raise OSError("crash")
            return function(*args)

        return call

    monkeypatch.setattr(_files.os, "fsync", fail_after(os.fsync))
    monkeypatch.setattr(_files.os, "replace", fail_after(os.replace))
    with pytest.raises(OSError, match="crash"):
        make_index().fit(data.gallery[:7]).save(folder)

    np.testing.assert_array_equal(load_index(folder).search(data.queries, 5), expected)


def test_what_a_crash_left_behind_is_swept_and_what_is_not_ours_is_not(
    data: Any, folder: Path
) -> None:
    (folder / ".skmmg-abc123.partial").touch()
    (folder / "notes.txt").touch()

    make_index().fit(data.gallery[:7]).save(folder)

    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == [
        "ids",
        "manifest.json",
        "notes.txt",
        "vectors",
    ]


def test_a_manifest_cannot_point_outside_of_its_folder(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["ids"]["file"] = "../" + manifest["files"]["ids"]["file"]
    path.write_text(json.dumps(manifest), encoding="utf-8")

    assert len(load_index(folder)) == 3000
