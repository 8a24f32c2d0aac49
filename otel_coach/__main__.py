"""The command `otel-coach`, also as `python -m otel_coach`."""

import sys


def main() -> int:
    """Runs the command line; returns the exit code.

    `run` does not import the other commands: the service is started after it.
    """
    command = sys.argv[2:]
    if sys.argv[1:2] == ["run"] and command and not command[0].startswith("-"):
        from otel_coach.setup.launch import launch  # noqa: PLC0415 - see above

        return launch(command)
    from otel_coach.cli import main as commands  # noqa: PLC0415 - see above

    return commands()


if __name__ == "__main__":
    sys.exit(main())
