"""Completion in bash, zsh and fish by click: one protocol for all, and a script for each.

The script hands over the line up to the cursor (`_NIGHTVAULT_LINE`) and gets a line for each word that fits:
its type, the word, and what it means, with tabs between. Importing this makes the shells known to click.

click's own scripts are not used: in bash they tear `latest:/etc` apart at its colon, and names at spaces.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

from backup.cli.support.completing import COMPLETE_VARIABLE
from backup.wording import escape

_BASH = r"""# Completion of %(prog_name)s in bash.
%(complete_func)s() {
    local kind word rest breaks=$COMP_WORDBREAKS quoted=
    [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] && quoted=1 breaks=
    COMPREPLY=()
    while IFS=$'\t' read -r kind word rest; do
        case $kind in
            '') ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            *)
                [[ $kind == more ]] && compopt -o nospace
                [[ $quoted ]] || printf -v word %%q "$word"
                COMPREPLY+=("$word")
                ;;
        esac
    done < <(_NIGHTVAULT_BREAKS=$breaks _NIGHTVAULT_LINE=${COMP_LINE:0:COMP_POINT} \
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
} 2>/dev/null
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = r"""#compdef %(prog_name)s
# Completion of %(prog_name)s in zsh.
%(complete_func)s() {
    local kind word text
    local -a plain plain_shown more more_shown
    while IFS=$'\t' read -r kind word text; do
        case $kind in
            '') ;;
            file) _files ;;
            dir) _files -/ ;;
            more) more+=("$word"); more_shown+=("$text") ;;
            *) plain+=("$word"); plain_shown+=("$text") ;;
        esac
    done < <(_NIGHTVAULT_LINE="${(j: :)words[1,CURRENT]}" \
        %(complete_var)s=zsh_complete "${words[1]}" 2>/dev/null)
    (( $#plain )) && compadd -V %(prog_name)s -l -d plain_shown -a plain
    (( $#more )) && compadd -V %(prog_name)s -S '' -l -d more_shown -a more
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = r"""# Completion of %(prog_name)s in fish.
function %(complete_func)s
    for line in (env _NIGHTVAULT_LINE=(commandline -cp | string collect) %(complete_var)s=fish_complete \
            %(prog_name)s 2>/dev/null)
        set -l parts (string split \t -- $line)
        switch $parts[1]
            case ''
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case '*'
                printf '%%s\t%%s\n' $parts[2] $parts[3]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def _is_text(value: str) -> bool:
    """Whether a word is text of the terminal; of a name that is not, its bytes could be typed by nobody."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Shell(ShellComplete):
    """The base of the three shells."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor without the program's name, and the incomplete word at it."""
        line = os.environ.get("_NIGHTVAULT_LINE", "")
        *before, last = split_arg_string(f"{line}x")  # the x makes a word of what follows a space
        names = [n for n, word in enumerate(before) if os.path.basename(word) == self.prog_name]
        return before[names[0] + 1 if names else 1 :], last[:-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the completions that fit on a line: text without tabs and newlines."""
        found = super().get_completions(args, incomplete)
        return [
            completion
            for completion in found
            if not {"\t", "\n"} & set(completion.value) and _is_text(completion.value)
        ]

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line for a completion."""
        return f"{item.type}\t{item.value}\t{item.help or ''}"


class _Bash(_Shell):
    """bash ends a word at a colon, and wants only what comes behind it."""

    name = "bash"
    source_template = _BASH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the completions without the part before the last word break of bash, such as a colon."""
        breaks = set(os.environ.get("_NIGHTVAULT_BREAKS", "")) & set(":=@")
        head = incomplete[: 1 + max((incomplete.rfind(character) for character in breaks), default=-1)]
        found = super().get_completions(args, incomplete)
        for completion in found:
            if completion.type not in {"file", "dir"}:
                completion.value = completion.value.removeprefix(head)
        return found


class _Zsh(_Shell):
    """zsh prints what it is told to show for a word as it stands, so that is escaped here."""

    name = "zsh"
    source_template = _ZSH

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line for a completion: its type, the word, and its description."""
        shown = f"{item.value}  -- {item.help}" if item.help else item.value
        return f"{item.type}\t{item.value}\t{escape(shown)}"


class _Fish(_Shell):
    name = "fish"
    source_template = _FISH


SHELLS = {shell.name: shell for shell in (_Bash, _Zsh, _Fish)}
for _shell in SHELLS.values():
    add_completion_class(_shell)


def script_for(shell: str) -> str:
    """Return the script that lets a shell complete command lines of `nightvault`."""
    made = SHELLS[shell](click.Command("nightvault"), {}, "nightvault", COMPLETE_VARIABLE)
    return made.source()
