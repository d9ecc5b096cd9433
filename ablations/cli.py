"""fima-ablate: one YAML per table in, trained models, MLflow runs and tables out.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import NoReturn

import typer

from ablations.commands import examine, look, show, train

BAD_INPUT = 2  # exit code

app = typer.Typer(
    name="fima-ablate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would triple the time of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="""Which part of FIMA matters? Trains, evaluates and tabulates the paper's ablations.

    A study (studies/*.yaml) is one table: rows, metrics, printed numbers, claims.
    A profile (studies/profiles/*.yaml) says how large: demo takes minutes on
    two cores, with embedded videos; ucf101-i3d is the paper's recipe.

    \b
    A table in minutes, without data or GPU:
      fima-ablate run studies/table3d_beta.yaml

    \b
    The paper's Table 3d on your UCF101 and HMDB51:
      fima-ablate run table3d_beta --profile ucf101-i3d --data-root DIR

    \b
    What all sixteen tables need, share and have done already:
      fima-ablate plan

    \b
    Search beyond the paper's grid, judged on a part of train:
      fima-ablate sweep beta_threshold

    After any interruption the same command goes on: what is done is kept.
    """,
)
data_app = typer.Typer(no_args_is_help=True, help="Check a data set before a run depends on it.")
app.add_typer(data_app, name="data")

for command in (
    train.run,
    train.sweep,
    look.plan,
    look.bench,
    show.report,
    show.claims,
    look.cost,
    look.status,
    examine.doctor,
    show.ui,
    show.figures,
    look.list_,
    show.sync,
):
    app.command(command.__name__.strip("_"))(command)
data_app.command("check")(examine.check)


def _stop(message: str, code: int) -> NoReturn:
    """One line on stderr, no traceback."""
    print(f"fima-ablate: {message}", file=sys.stderr)
    sys.exit(code)


def _wrong_words(error: typer.TyperException) -> str:
    """What a command line holds that no command takes, with the value (typer leaves it out) and where to look."""
    from pydantic import ValidationError  # half the time of --help

    cause, where = error.__cause__, getattr(error, "ctx", None)
    given = cause.errors()[0]["input"] if isinstance(cause, ValidationError) else None
    said = error.format_message().rstrip(".") + (f", got {given}" if given is not None else "")
    return f"{said}{'' if said.endswith('?') else ';'} see {where.command_path if where else 'fima-ablate'} --help"


def main() -> None:
    """Entry point: what the user can mend is one line, what is our fault is a traceback."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        sys.exit(app(prog_name="fima-ablate", standalone_mode=False))
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no command at all; typer gives the class no public name
            typer.echo(error.format_message(), err=True)
            sys.exit(BAD_INPUT)
        _stop(_wrong_words(error), BAD_INPUT)
    except (ValueError, OSError) as error:
        _stop(" ".join(str(error).split()), BAD_INPUT)
    except KeyboardInterrupt:
        _stop("stopped; the same command goes on from here", 130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not break off the tidying up


if __name__ == "__main__":
    main()
