"""Commands of `jointseg`, called in the test process."""

from jointseg.cli.main import build_parser


def run_command(*arguments: object) -> int:
    """Run a command and return its exit status. Unlike `main`, it raises the errors of the command."""
    args = build_parser().parse_args(list(map(str, arguments)))
    return args.handler(args)
