"""What a refused command line may do: one line on stderr, exit code 2, and no change on disk."""

from collections.abc import Callable
from pathlib import Path


def files(folder: Path) -> dict[Path, bytes]:
    """The files below a folder without locks, which stay so that two runs never lock different files."""
    return {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


def one_line(code: int, stderr: str, *parts: str) -> None:
    """Assert that a command was refused with one line that has all `parts`."""
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1 and stderr.endswith("\n")
    for part in parts:
        assert part in stderr


def exit_code_of(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of a program, which ends at once where its arguments are wrong."""
    try:
        return main(argv)
    except SystemExit as ended:
        return ended.code
