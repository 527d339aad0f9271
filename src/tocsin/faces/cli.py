"""The command line: which commands there are, and what their exit codes mean.

Enters: arguments. Leaves: an exit code. Layer: faces. Only what `--help` needs is imported here; `tests/test_cli.py`
holds that line.
"""

import os
import sys
from collections.abc import Callable, Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from tocsin.errors import TocsinError
from tocsin.faces.commands.alerts import alerts
from tocsin.faces.commands.ask import ask
from tocsin.faces.commands.backtest import backtest
from tocsin.faces.commands.dead_letters import dead_letters
from tocsin.faces.commands.demo import demo
from tocsin.faces.commands.describe import describe
from tocsin.faces.commands.explain import explain
from tocsin.faces.commands.fit import fit
from tocsin.faces.commands.geo import geo
from tocsin.faces.commands.mapping import mapping
from tocsin.faces.commands.metrics import metrics
from tocsin.faces.commands.report import report
from tocsin.faces.commands.rules import rules
from tocsin.faces.commands.run import run
from tocsin.faces.commands.simulate import simulate
from tocsin.faces.commands.status import status
from tocsin.faces.commands.verify import verify
from tocsin.faces.commands.workbench import workbench
from tocsin.faces.options import UsageError
from tocsin.faces.terminal import BROKEN_PIPE, new_console, safe_lines

OK, FAILED, USAGE, UNREADABLE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 70, 130
EXIT_CODES = {
    OK: "done",
    FAILED: "a check failed (verify, rules, demo, status, --strict), or something could not be completed",
    USAGE: "the command line makes no sense",
    UNREADABLE: "an input cannot be read or an output cannot be written",
    INTERNAL: "an error in tocsin itself: please report it",
    INTERRUPTED: "interrupted",
}


def _version() -> str:
    from tocsin import __version__

    return f"tocsin {__version__}"


def _epilogue(*examples: str) -> str:
    return "\n".join(["Example:" if len(examples) == 1 else "Examples:", *(f"  tocsin {e}" for e in examples)])


app = App(
    name="tocsin",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    result_action="return_value",
    help="Detections over event logs: replay rules over history, test them, prove that they score the same every time.",
    help_epilogue=f"{_epilogue('backtest mail.jsonl.gz --threats list.txt')}\n\nExit codes:\n"
    + "\n".join(f"  {code:3}  {words}" for code, words in EXIT_CODES.items()),
)
_COMMANDS: tuple[tuple[Callable[..., int], tuple[str, ...]], ...] = (
    (describe, ("describe mail.jsonl.gz", "describe mail.jsonl.gz --columns nr_recipients user_id")),
    (
        backtest,
        (
            "backtest mail.jsonl.gz --threats listed.txt",
            "backtest 'logs/*.parquet' --rules mine.py --since 2026-03-01 --out findings.csv",
            "backtest mail.jsonl.gz --compare old.py new.py",
        ),
    ),
    (
        run,
        (
            "run mail.jsonl --state state/ --log soc.db",
            "run http --listen 127.0.0.1:8700 --state state/ --log soc.db",
            "run soc.toml",
        ),
    ),
    (
        verify,
        (
            "verify mine.py mail.jsonl.gz",
            "verify shipped mail.jsonl.gz --threats listed.txt",
            "verify mine.py mail.jsonl.gz --live --kills 5",
        ),
    ),
    (explain, ("explain 1f3a --findings findings.parquet mail.jsonl.gz",)),
    (fit, ("fit mail.jsonl.gz --out tables/",)),
    (simulate, ("simulate demo/ --users 200 --days 30 --seed 7",)),
    (report, ("report --log soc.db --week 2026-W46 --zone Europe/Berlin --out report/",)),
    (demo, ("demo --seed 7",)),
    (status, ("status --state engine/", "status --state engine/ --watch")),
)
for _command, _examples in _COMMANDS:
    app.command(_command, help_epilogue=_epilogue(*_examples))
for _group in (alerts, dead_letters, ask, metrics, mapping, rules, geo, workbench):
    _group.help_epilogue = "`--help` after a command shows its options and an example."
    app.command(_group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors made on purpose are one message, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        code = app(words, console=new_console(), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(f"{error}\nTry: tocsin {' '.join([*(error.command_chain or ()), '--help'])}", USAGE)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except TocsinError as error:
        return _complain(str(error), UNREADABLE)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _complain(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "), UNREADABLE)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - a panic of Polars is no Exception; nothing that an attacker wrote reaches the terminal raw
        import traceback

        return _complain(traceback.format_exc(), INTERNAL)
    return code if isinstance(code, int) else OK


def _complain(message: str, code: int) -> int:
    console = new_console(stderr=True)
    name, _, rest = safe_lines(message).partition("\n")
    console.print(f"tocsin: {name}", soft_wrap=True)
    if rest:
        console.print(rest, soft_wrap=True)
    return code


__all__ = ["EXIT_CODES", "app", "main"]
