"""Ctrl-C while a script imports its modules: one line and exit code 130, as later by `cli.run`."""

import os  # and not pathlib, whose import takes time
import sys
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f'{os.path.basename(sys.argv[0])}: error: interrupted\n')  # noqa: PTH119
    sys.stderr.flush()
    os._exit(130)


def _is_script_of_this_project() -> bool:
    """Whether this process runs one of the scripts, not another program that imports `dnnlib`."""
    main = getattr(sys.modules.get('__main__'), '__file__', None)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    return main is not None and os.path.dirname(os.path.abspath(main)) == here  # noqa: PTH100, PTH120


if _is_script_of_this_project():
    sys.excepthook = _report
