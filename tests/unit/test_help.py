"""--help of every command: it comes at once and fits a terminal. That its examples run is for test_readme.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from ablations.cli import app

TOOL = typer.main.get_command(app)
COMMANDS = [*((name,) for name in TOOL.commands), ("data", "check")]  # type: ignore[attr-defined]


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}, prog_name="fima-ablate")
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=lambda words: " ".join(words) or "all")
def test_help_fits_a_terminal(words: tuple[str, ...]) -> None:
    text = shown(*words)
    assert not [line for line in text.splitlines() if len(line) > 80]
    assert "[dim]" not in text and "\b" not in text


def test_the_list_of_commands_says_each_in_one_whole_sentence() -> None:
    listed = shown().partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(TOOL.commands)  # type: ignore[attr-defined]
    assert all(line.endswith(".") and not line.endswith("...") for line in listed), listed


def test_help_loads_nothing_that_it_does_not_need() -> None:
    """rich alone would take longer than all the rest of it; torch takes seconds."""
    code = (
        "import sys\n"
        "from ablations.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "sys.exit(' '.join({'rich', 'torch', 'pydantic', 'yaml', 'numpy', 'mlflow'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_no_command_shows_the_help_and_counts_as_bad_input() -> None:
    code = "from ablations.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: fima-ablate ")
