"""Groups that import commands only when they are used; global options may come before or after names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from backup.cli.support.completing import complete_parameters
from backup.cli.support.context import Cli

_FLAGS = frozenset({"--json", "--quiet", "-q", "--verbose", "-v", "--wide"})
_WITH_VALUE = frozenset({"--config", "--patience"})


HIDDEN = ""
"""The section of commands that work, and that no help or completion shows."""


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command that is not imported yet: `module:attribute`, its line of help, and the heading above it."""

    target: str
    help: str
    section: str = "Commands"

    def load(self) -> click.Command:
        """Import the command, and add global options, completions and its examples to it."""
        module, attribute = self.target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        add_global_options(command)
        examples = self.examples()
        for path, subcommand in walk(str(command.name), command):
            complete_parameters(subcommand)
            subcommand.epilog = _epilog(examples.get(path, ()))
        return command

    def examples(self) -> Mapping[str, Sequence[str]]:
        """Its examples, and those of the commands below it; none for an old name."""
        module = importlib.import_module(self.target.partition(":")[0])
        return getattr(module, "EXAMPLES", {})


def _epilog(examples: Sequence[str]) -> str | None:
    """The end of a command's help; None if it has no examples.

    Each is one command line that works as it stands on a machine with such jobs and files; a test reads its
    words as the command would. What follows two spaces and a # is said to the reader.
    """
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples) if examples else None


class LazyGroup(click.Group):
    """A group that imports a command when it is used; its help imports nothing."""

    def __init__(self, *args: Any, table: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self._shown = {name: command for name, command in table.items() if command.section != HIDDEN}
        self.params.extend(_global_options(shown=True))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names of the commands, in the order of the table."""
        return list(self._shown)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command of that name."""
        return self._table[cmd_name].load() if cmd_name in self._table else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command as click does; for an unknown name the error suggests a similar one."""
        name = args[0]
        if name not in self._table and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            from backup.cli.support.foreign_words import meant_by

            close = meant_by(name, args[1:]) or " ".join(difflib.get_close_matches(name, self._table, n=1))
            meant = f"; did you mean {close}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands with that prefix, without imports; options only for a prefix with a dash."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = {name: command.help for name, command in self._shown.items() if name.startswith(incomplete)}
        return [CompletionItem(name, help=text) for name, text in found.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a line for each command below the heading of its group, from the table."""
        width = max(map(len, self._shown))
        for section in dict.fromkeys(command.section for command in self._shown.values()):
            rows = [
                (name.ljust(width), command.help)
                for name, command in self._shown.items()
                if command.section == section
            ]
            with formatter.section(section):
                formatter.write_dl(rows)


class CommandWithSubcommands(click.Command):
    """A command that takes an argument or a subcommand: `restore SNAP`, `restore resume ID`.

    Write it as a command with `cls=CommandWithSubcommands`, then each subcommand as a function under
    `@restore.subcommand("resume")`, which takes options and arguments as any command does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subcommands: dict[str, click.Command] = {}

    def subcommand(self, name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
        """Return a decorator that makes a function the subcommand `name`."""

        def add(function: Callable[..., Any]) -> click.Command:
            made: click.Command = click.command(name=name, cls=click.Command, **kwargs)(function)
            self.subcommands[name] = made
            return made

        return add

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the subcommand that the first argument names, else of this command."""
        place = _first_argument(args)
        named = None if place is None else self.subcommands.get(args[place])
        if named is None:
            return super().make_context(info_name, args, parent, **extra)
        rest = [arg for n, arg in enumerate(args) if n != place]
        return named.make_context(f"{info_name} {named.name}", rest, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command or subcommand that the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands below the options."""
        with formatter.section("Or"):
            formatter.write_dl(
                [
                    (f"{ctx.command_path} {name}", command.get_short_help_str())
                    for name, command in self.subcommands.items()
                ]
            )
        super().format_epilog(ctx, formatter)


def _first_argument(args: list[str]) -> int | None:
    """The index of the first argument that is neither a global option nor the value of one."""
    after_one_with_value = False
    for place, arg in enumerate(args):
        if after_one_with_value or arg in _FLAGS:
            after_one_with_value = False
        elif arg in _WITH_VALUE:
            after_one_with_value = True
        else:
            return place
    return None


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all its subcommands, each with the words that call it."""
    yield path, command
    for subcommand in _below(command):
        yield from walk(f"{path} {subcommand.name}", subcommand)


def add_global_options(command: click.Command) -> None:
    """Add the global options that are missing to a command and all its subcommands."""
    taken = {name for param in command.params for name in param.opts}
    command.params.extend(option for option in _global_options() if taken.isdisjoint(option.opts))
    for subcommand in _below(command):
        add_global_options(subcommand)


def _below(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        yield from command.commands.values()
    if isinstance(command, CommandWithSubcommands):
        yield from command.subcommands.values()


def _global_options(*, shown: bool = False) -> list[click.Option]:
    """New global options; below the root only --json is shown in the help, to keep it short."""
    return [
        _option(["--config"], "config_path", "Read this config file.", hidden=not shown, metavar="FILE"),
        _option(["--json"], "json", "Print one JSON document on stdout.", is_flag=True),
        _option(["--quiet", "-q"], "quiet", "No progress and no remarks.", hidden=not shown, is_flag=True),
        _option(["--verbose", "-v"], "verbose", "Say more.", hidden=not shown, is_flag=True),
        _option(
            ["--patience"],
            "patience_words",
            "How long to try to reach a vault; 30s by default.",
            hidden=not shown,
            metavar="TIME",
        ),
        _option(["--wide"], "wide", "All columns of tables.", hidden=not shown, is_flag=True),
    ]


def _option(flags: list[str], attribute: str, text: str, **kwargs: Any) -> click.Option:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        cli = ctx.ensure_object(Cli)
        if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
            setattr(cli, attribute, value)

    names = [*flags, f"global_{attribute}"]
    return click.Option(names, expose_value=False, is_eager=True, help=text, callback=remember, **kwargs)
