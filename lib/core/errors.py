"""User errors: reported as one line that says what is wrong, where, and how to fix it; exit code 2."""

import contextlib
import difflib
import errno
import io
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

# The modules of the packages that pyproject.toml requires.
MODULES = (
    "torch", "torchvision", "timm", "einops", "numpy", "annotated_types", "filelock", "tqdm", "rich", "yaml",
    "torchsummary", "tensorboard", "matplotlib", "PIL", "scipy",
)  # fmt: skip


class BadInput(ValueError):
    """A user error. The program prints its message as one line and exits with code 2."""


@contextlib.contextmanager
def where(place: str) -> Iterator[None]:
    """Turn a ValueError into a BadInput whose message starts with `place`.

    A BadInput already says where it comes from, and passes unchanged.
    """
    try:
        yield
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{place}: {error}") from error


def located(error: BaseException, folder: Path) -> str:
    """`file, line n: Error: message`, with the innermost place in the source files of `folder`, if any."""
    if isinstance(error, SyntaxError):
        frames, message = [(error.filename, error.lineno)], error.msg
    else:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        message = error
    inside = [f"{file}, line {line}: " for file, line in frames if Path(file).is_relative_to(folder)]
    return f"{inside[-1] if inside else ''}{type(error).__name__}: {message}".removesuffix(": ")


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean a, b?` for the known names that look like `name`, or an empty string."""
    known = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(known[c] for c in close)}?" if close else ""


def require(holds: bool, argument: str, rule: str, value: object) -> None:
    """Raise a ValueError unless a rule holds that no annotation can state, such as one over two arguments."""
    if not holds:
        raise ValueError(f"{argument} must be {rule}, got {value!r}")


def require_packages() -> None:
    """End a program of a checkout, in one line, if a package that it needs is not installed."""
    if missing := ", ".join(name for name in MODULES if find_spec(name) is None):
        remedy = "run `make setup`, then `source .venv/bin/activate`"
        complain(BadInput(f"{sys.executable} has no {missing}; {remedy}"))
        sys.exit(2)


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a device or of this process is used up.

    torch and oneDNN have no error type for the memory of the process, so their messages are matched.
    """
    match error:
        case OSError():
            return error.errno == errno.ENOMEM
        case RuntimeError():
            words = ("out of memory", "can't allocate memory", "bad_alloc", "can't start new thread")
            # torch's type by its name, because commands that do without torch do not import it.
            kinds = (type(error).__name__ == "OutOfMemoryError", str(error) == "could not create a primitive")
            return any(kinds) or any(word in str(error) for word in words)
    return isinstance(error, MemoryError)


def exit_code(command: Callable[..., int | None], *arguments) -> int:
    """Run a command and return its exit code: its own, or 0 for None, or 2 after a user error.

    An error of the system that names a file, such as one without permission, is about a path of the user's.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what its encoding has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return command(*arguments) or 0
    except BadInput as error:
        complain(error)
    except Exception as error:
        if out_of_memory(error):
            complain(BadInput("there is too little memory; end other programs, or raise `ulimit -v`"))
        elif isinstance(error, OSError) and error.filename is not None:
            remedy = "give another path, or make this one usable"
            complain(BadInput(f"{error.filename}: {error.strerror}; {remedy}"))
        else:
            raise
    return 2


def complain(error: BadInput) -> None:
    """Print a user error as one line; messages of libraries may contain line breaks."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
