"""Command-line conventions of all scripts: grouped `--help`, one-line errors, exit codes, progress
bars that know a terminal.
"""

import contextlib
import errno
import math
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from . import habits
from .util import UserError, escaped, is_out_of_memory, printable

T = TypeVar('T')

MAX_LINE = 2000  # characters of an error
NO_OPTION = 'close other programs, or take a machine with more'
SMALLER_BATCH = 'a smaller --batch needs less'

EXIT_OK, EXIT_BUG, EXIT_USER, EXIT_INTERRUPTED = 0, 1, 2, 130


class Option(click.Option):
    """A click option that belongs to a headed group of the help page."""

    def __init__(self, *args: Any, group: str = 'Options', **kwargs: Any) -> None:
        kwargs.setdefault('show_default', True)
        for kind, metavar in [
            (given_path, 'PATH'),
            (given_text, 'TEXT'),
            (given_text_or_none, 'TEXT'),
            (finite, 'NUMBER'),
        ]:
            if kwargs.get('type') is kind:
                kwargs.setdefault('metavar', metavar)
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help page lists its options under the groups' headings, in the order of
    declaration.

    An option of another project gives an error that names what to type instead.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            answer = habits.answer(self.name or '', error.option_name)
            if answer is None:
                raise
            raise click.UsageError(f'there is no {error.option_name}; {answer}', ctx) from error
        except click.UsageError as error:
            answer = habits.answer(self.name or '', '')
            if answer is None or not (
                isinstance(error, click.MissingParameter) or 'extra argument' in error.message
            ):
                raise
            raise click.UsageError(
                f'{error.format_message().rstrip(".")}; {answer}', ctx
            ) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(param, 'group', 'Options'), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def command(**kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """`@command()` in place of `@click.command()`: grouped help, 110 columns, `--an_option` for
    `--an-option`.
    """
    settings = {
        'max_content_width': 110,
        'help_option_names': ['-h', '--help'],
        'token_normalize_func': lambda name: name.replace('_', '-'),
    }
    return click.command(cls=Command, context_settings=settings, **kwargs)


def option(
    *names: str, group: str = 'Options', **kwargs: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`@option('--name', group='Heading', ...)`: click's options, defaults shown."""
    return click.option(*names, cls=Option, group=group, **kwargs)


def given_path(value: str) -> Path:
    """The type of options that take a path; an empty one, as an unset shell variable leaves it,
    would mean the current folder.
    """
    return Path(given_text(value))


def given_text(value: str) -> str:
    """The type of options that take a path, a URL or a name; not an empty one. A `~` at the
    beginning is the home folder.

    Shells expand it in `--data ~/pictures`, but not in `--data=~/pictures`.
    """
    if not value.strip():
        raise click.BadParameter('it is empty')
    return os.path.expanduser(value)  # noqa: PTH111 (Path would change a URL)


def given_text_or_none(value: str) -> str | None:
    """As `given_text`; NVIDIA's `noresume`, and `none`, in any case, mean no file."""
    return None if value.lower() in ('noresume', 'none') else given_text(value)


def finite(value: str) -> float:
    """The type of options that take a number, NaN and infinity excluded."""
    try:
        number = float(value)
    except ValueError:
        raise click.BadParameter(f'{value!r} is no number') from None
    if not math.isfinite(number):
        raise click.BadParameter(f'{value!r} is no finite number')
    return number


def device_option(group: str = 'Options') -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The `--device` that every script has."""
    return option(
        '--device',
        type=click.Choice(['auto', 'cuda', 'mps', 'cpu']),
        default='auto',
        group=group,
        help='Where to compute; auto takes a CUDA GPU if there is one. mps: Apple GPUs, untried.',
    )


def trust_option(group: str = 'Options') -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The `--trust-pickle` of scripts that read networks."""
    return option(
        '--trust-pickle',
        is_flag=True,
        group=group,
        help='Let pickles run what they ask for. Only for files that you would run.',
    )


def face_options(
    default: str, group: str = 'Faces'
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The `--align` and `--landmarks` of scripts that read photographs.

    Args:
        default: `ffhq` or `none`.
    """
    align = option(
        '--align',
        type=click.Choice(['ffhq', 'none']),
        default=default,
        group=group,
        help="ffhq: the largest face, upright, cut as FFHQ's pictures were. none: the "
        'middle square.',
    )
    marks = option(
        '--landmarks',
        type=given_path,
        metavar='FILE.json',
        default=None,
        show_default=False,
        group=group,
        help="Eyes and mouths by the pictures' file names, as prepare_data.py takes "
        'them, instead of dlib.',
    )
    return lambda function: align(marks(function))


def parse_seeds(text: str, option: str = '--seeds') -> list[int]:
    """`0-3,7,12` to a list of seeds, or what else `option` counts.

    Raises:
        UserError: anything but numbers 0…2³²−1 and ranges of them.
    """
    seeds: list[int] = []
    for part in text.replace(' ', '').split(','):
        match = re.fullmatch(r'(\d+)(?:-(\d+))?', part)
        if (
            match is None
            or int(match[2] or match[1]) >= 2**32
            or int(match[2] or match[1]) < int(match[1])
        ):
            raise UserError(
                f'{option}={text}: numbers look like 0-35 or 1,5,8-10, each below 4294967296'
            )
        more = range(int(match[1]), int(match[2] or match[1]) + 1)
        if len(seeds) + len(more) > 10_000_000:
            raise UserError(f'{option}={text}: more than ten million')
        seeds += more
    return seeds


def run(
    cli: click.Command, argv: Sequence[str] | None = None, *, saves_memory: str = NO_OPTION
) -> int:
    """Run a command and turn what it raises into one line on stderr and an exit code.

    Args:
        saves_memory: what to do when memory does not suffice: `a smaller --batch needs less`.

    Returns:
        0 done, 2 the user's fault (`UserError`, wrong options, too little memory), 130 Ctrl-C and
        signals that end it, 1 our fault (with the traceback).
    """
    prog = Path(sys.argv[0]).name if argv is None else f'{cli.name}.py'
    try:
        arguments = sys.argv[1:] if argv is None else list(argv)
        with interrupted_by_signals():
            # `obj` is for a command that restarts itself.
            result = cli.main(
                args=list(arguments), prog_name=prog, standalone_mode=False, obj=arguments
            )
        return result if isinstance(result, int) else EXIT_OK
    except click.ClickException as error:
        _say(prog, f'{error.format_message()} (see {prog} --help)')
        return EXIT_USER
    except UserError as error:
        _say(prog, str(error))
        return EXIT_USER
    except (KeyboardInterrupt, click.Abort):
        _say(prog, 'interrupted')
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return EXIT_BUG
    except OSError as error:
        if is_out_of_memory(error):
            return _memory(prog, error, saves_memory)
        if error.errno not in (
            errno.ENOSPC,
            errno.EFBIG,
            errno.EROFS,
            getattr(errno, 'EDQUOT', None),
        ):
            return _fault(prog, error)
        _say(prog, f'cannot write {error.filename or "a file"}: {error.strerror}')
        return EXIT_USER
    except Exception as error:
        return (
            _memory(prog, error, saves_memory) if is_out_of_memory(error) else _fault(prog, error)
        )


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM, of `kill` and of batch systems, and SIGHUP, of a terminal that closes, as Ctrl-C: so
    that temporary files are removed.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = {}
    if threading.current_thread() is threading.main_thread():  # Python allows no other to change it
        for number in filter(None, (getattr(signal, name, None) for name in ('SIGTERM', 'SIGHUP'))):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                previous[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _memory(prog: str, error: Exception, saves_memory: str) -> int:
    amount = re.search(r'(?:tried|unable) to allocate ([\d.]+ ?\w+)', str(error), re.IGNORECASE)
    needed = '' if amount is None else f' ({amount[1]} more were needed)'
    _say(prog, f'not enough memory{needed}; {saves_memory}')
    return EXIT_USER


def _fault(prog: str, error: Exception) -> int:
    traceback.print_exception(error)
    _say(prog, f'this is a fault of the program, not yours: {type(error).__name__}: {error}')
    return EXIT_BUG


def _say(prog: str, message: str) -> None:
    sys.stderr.write(f'{prog}: error: {printable(message, MAX_LINE)}\n')


def echo(text: str, err: bool = False) -> None:
    """Print text that may hold names from files: no escape sequence reaches the terminal.

    Args:
        text: one or more lines.
        err: print to stderr.
    """
    click.echo('\n'.join(map(escaped, text.split('\n'))), err=err)


def progress(
    items: Iterable[T],
    *,
    total: int | None = None,
    desc: str = '',
    unit: str = 'it',
    disable: bool = False,
) -> 'tqdm[T]':
    """A progress bar on stderr; one line every ten seconds where stderr is no terminal."""
    terminal = sys.stderr.isatty()
    return tqdm(
        items,
        total=total,
        desc=desc,
        unit=unit,
        file=sys.stderr,
        dynamic_ncols=terminal,
        ascii=not terminal,
        mininterval=0.1 if terminal else 10.0,
        delay=0.0 if terminal else 10.0,
        leave=True,
        disable=disable,
    )
