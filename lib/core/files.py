"""Files that are whole: written under a temporary name and renamed, and checked when they are read."""

import contextlib
import os
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

from .errors import BadInput


def expanded(text: str) -> str:
    """A path as a user writes it, with `~` and $VARIABLES replaced by what they stand for.

    Raises:
        ValueError: no file can have that name; or it is a pipe, which may never be written to, or a device,
            which may have no end.
    """
    path = os.path.expanduser(os.path.expandvars(text))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, ValueError) as error:  # too long, a loop of links, a NUL character
        raise ValueError(f"{path!r} is not a path: {getattr(error, 'strerror', error)}") from error
    if stat.S_ISFIFO(mode) and not path.startswith("/dev/"):  # /dev/fd/63 is the shell's <(command)
        raise ValueError(f"{path} is a named pipe; give a file")
    if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not os.path.samefile(path, os.devnull):
        raise ValueError(f"{path} is a device; give a file")
    return path


def user_path(text: str) -> Path:
    """`expanded`, as a Path: the `type` of an argument of a program."""
    return Path(expanded(text))


def printable(name: str) -> str:
    """A name of a file or folder on one line: line breaks and bytes that are no text are escaped."""
    odd = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
    return re.sub(odd, lambda found: found[0].encode("unicode_escape").decode(), name)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, or leave it as it was: BadInput if it cannot be written."""
    try:
        replace_file(path, data.encode(errors="backslashreplace") if isinstance(data, str) else data)
    except OSError as error:
        raise unwritable(path, error) from error


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, or leave it as it was: OSError if it cannot be written."""
    in_place = os.path.exists(path) and not os.path.isfile(path)  # a device: /dev/null must not become a file
    # A run folder has one writer, so a fixed name is enough, and a killed run leaves at most one such file.
    partial = path if in_place else path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            if not in_place:
                file.flush()
                os.fsync(file.fileno())
        if not in_place:
            os.replace(partial, path)
    except OSError:
        if not in_place:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise


def load_archive(path: Path) -> Any:
    """The content of a file that torch saved, on the CPU; pickled code is never run.

    Raises:
        Exception: of many types, for bytes that cannot be read. A changed byte is always found.
    """
    import torch  # imported late: registries are read without it

    if zipfile.is_zipfile(path):  # else it is older than torch 1.6, and has no checksums
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch itself does not compare the checksums
                raise ValueError(f"{damaged} is damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's guesses about other files
        return torch.load(path, map_location="cpu", weights_only=True)


def unwritable(path: Path, error: OSError) -> BadInput:
    """The error for a file that cannot be written."""
    return BadInput(
        f"cannot write {path}: {error.strerror}; the earlier file is untouched. Free some space, or give "
        "another folder with --output-dir, and run the same command again"
    )
