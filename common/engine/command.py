"""How a command line of ours ends: one clear line for every trouble, and the trouble's exit code."""

import sys

import click

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import GhostTrackError


def run_command(command: click.Command, name: str, program: str) -> None:
    """Run a command and end the process where it does not succeed (codes: `common/errors.py`).

    name: begins the lines about troubles; program: how the usage line calls the command.
    """
    try:
        code = command.main(prog_name=program, standalone_mode=False)
        if code:  # of `context.exit(code)`
            sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print(f"{name}: interrupted; the next run goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `ghosttrack logs | head`
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        found = error if isinstance(error, GhostTrackError) else storage_error(error)
        if found is None:
            raise
        print(f"{name}: error: {found}", file=sys.stderr)
        sys.exit(found.exit_code)
