"""Compile a C++ source of this package when it is first needed, and keep what was compiled."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_logger = logging.getLogger("skmmg")

_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-pthread"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"),
    "-fno-associative-math",  # some compilers reorder sums unless told not to
)


class CompileError(RuntimeError):
    """There is no compiler, or it did not do."""


def load(source: Path, **defines: int | str) -> ctypes.CDLL:
    """The shared library of a source with these macros defined.

    It is compiled in a second or two when it is needed for the first time, which is logged, and
    kept in `cache_folder`, by source, macros, compiler and processor.

    Raises
    ------
    CompileError
        If there is no compiler, or it failed.
    """
    return _load(source, tuple(sorted(defines.items())))


@cache
def _load(source: Path, defines: tuple[tuple[str, int | str], ...]) -> ctypes.CDLL:
    compiler = find_compiler()
    if compiler is None:
        raise CompileError("no C++ compiler was found: neither $CXX nor c++, g++, clang++")
    flags = [*_FLAGS, *(f"-D{name}={value}" for name, value in defines)]
    try:
        target = cache_folder() / f"{source.stem.strip('_')}-{_digest(source, compiler, flags)}.so"
        library = _open(target)  # a cache that is only read needs no lock
        if library is None:
            with _locked(target):
                if _open(target) is None:
                    _logger.warning(
                        "Compiling %s for %s with %s, once; it is kept in %s.",
                        source.name,
                        ", ".join(f"{name}={value}" for name, value in defines),
                        compiler,
                        target.parent,
                    )
                    _compile(compiler, flags, source, target)
        return library or ctypes.CDLL(str(target))
    except OSError as error:
        raise CompileError(
            f"the compiled {source.name} cannot be kept or loaded: {error}"
        ) from error


def find_compiler() -> str | None:
    """Path of a compiler that knows GCC's vectors; None where there is none, as on Windows."""
    if os.name != "posix":
        return None
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where what was compiled is kept: $SKMMG_CACHE, or the user's cache."""
    if "SKMMG_CACHE" in os.environ:
        folder = Path(os.environ["SKMMG_CACHE"])
    elif sys.platform == "darwin":
        folder = _home() / "Library" / "Caches" / "skmmg"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "skmmg"
    # what is in it is run: nobody else may write there
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # a container that runs as a user without an entry
        raise OSError("no home directory is known; SKMMG_CACHE can name a folder") from error


def _open(library: Path) -> ctypes.CDLL | None:
    """A library; None if it is not there, or was cut off where a disk was full."""
    try:
        return ctypes.CDLL(str(library))
    except OSError:
        return None


def _digest(source: Path, compiler: str, flags: list[str]) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    parts = [source.read_bytes(), version, " ".join(flags).encode(), _processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


@cache
def _processor() -> str:
    """What the machine can do, as far as it says: a home may be shared by several machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return " ".join([platform.machine(), platform.processor(), *sorted(told)])


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process compiles, the others wait for it."""
    import fcntl

    with target.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(compiler: str, flags: list[str], source: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        new = Path(folder) / target.name
        command = [compiler, *flags, str(source), "-o", str(new)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise CompileError(f"{compiler} failed on {source.name}:\n{result.stderr[-2000:]}")
        new.replace(target)


def structure(name: str, fields: Mapping[str, type]) -> type[ctypes.Structure]:
    """A C struct with these fields."""
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})
