"""Scripts by which bash, zsh and fish complete a command line. They start no other program."""

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from expertree import __version__


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """An option.

    Attributes:
        names: Its names, with their dashes.
        text: What it is for.
        takes: What stands behind it.
        values: The words that may stand behind it, where they are known.
    """

    names: tuple[str, ...]
    text: str
    takes: Literal["nothing", "path", "other"] = "nothing"
    values: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VerbWords:
    """What can be typed after a verb.

    Attributes:
        name: The verb.
        text: What it does.
        options: Its options.
        operands: The words that stand for themselves, where they are known.
        keys: Dotted keys of its settings: of a section with a dot at the end, else with `=`.
        values: What a setting can be, by its key with `=`, where it is known.
    """

    name: str
    text: str
    options: tuple[Argument, ...]
    operands: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def first_keys(self) -> tuple[str, ...]:
        """The keys at the top: sections, and settings in none."""
        return tuple(key for key in self.keys if "." not in key[:-1])

    @property
    def inner_keys(self) -> tuple[str, ...]:
        """The keys of settings in sections."""
        return tuple(key for key in self.keys if "." in key[:-1] and not key.endswith("."))


Render: TypeAlias = Callable[[Sequence[VerbWords]], str]

_BASH = """\
# Completion of expertree {version}, printed by `expertree completion bash`.
_expertree() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}}
    local name= before= words= is_setting=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W {verbs} -- "$cur"))
        return
    fi
    # A bash that breaks words at = has three of them in key=value, another one has one.
    if [[ $cur == = ]]; then
        name=$prev= cur= is_setting=1
    elif [[ $prev == = ]]; then
        name=${{COMP_WORDS[COMP_CWORD-2]}}= is_setting=1
    elif [[ $cur == *=* ]]; then
        name=${{cur%%=*}}= before=$name cur=${{cur#*=}} is_setting=1
    elif [[ $prev == -* ]]; then
        name=$prev
    fi
    [[ $name == -*= ]] && name=${{name%=}}
    case "$verb $name" in
{values}
        *) [[ $is_setting ]] && return ;;
    esac
    if [[ ! $words ]]; then
        case $verb in
{verb_words}
        esac
    fi
    COMPREPLY=($(compgen -P "$before" -W "$words" -- "$cur"))
    [[ ${{COMPREPLY[0]-}} == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}}
complete -o default -F _expertree expertree
"""


def bash_script(verbs: Sequence[VerbWords]) -> str:
    """Return the script for bash; where it knows no word, bash offers files."""
    return _BASH.format(
        version=__version__,
        verbs=_one_word(verb.name for verb in verbs),
        values="\n".join(
            line
            for verb in verbs
            for names, takes, values in _followed(verb)
            for line in _bash_case(verb.name, names, takes, values)
        ),
        verb_words="\n".join(line for verb in verbs for line in _bash_words(verb)),
    )


def _bash_case(verb: str, names: Sequence[str], takes: str, values: Sequence[str]) -> Iterator[str]:
    pattern = "|".join(shlex.quote(f"{verb} {name}") for name in names)
    if values:
        yield f"        {pattern}) words={_one_word(values)} ;;"
    elif takes == "path":
        yield f"        {pattern}) return ;;"
    else:
        yield f"        {pattern}) compopt +o default 2>/dev/null; return ;;"


def _bash_words(verb: VerbWords) -> Iterator[str]:
    names = [name for option in verb.options for name in option.names]
    yield f"            {verb.name})"
    yield f"                words={_one_word((*names, *verb.operands, *verb.first_keys))}"
    if verb.inner_keys:
        yield f"                [[ $cur == *.* ]] && words={_one_word(verb.inner_keys)}"
    yield "                ;;"


_ZSH = """\
#compdef expertree
# Completion of expertree {version}, printed by `expertree completion zsh`.
_expertree() {{
    local verb=${{words[2]}} current=${{words[CURRENT]}} name=
    local -a described
    if ((CURRENT == 2)); then
        described=({verbs})
        _describe verb described
        return
    fi
    if [[ $current == *=* ]]; then
        name=${{current%%=*}}=
        [[ $name == -*= ]] && name=${{name%=}}
        compset -P 1 '*='
    elif [[ ${{words[CURRENT-1]}} == -* ]]; then
        name=${{words[CURRENT-1]}}
    fi
    case "$verb $name" in
{values}
    esac
    [[ $name == *= ]] && {{ _files; return; }}
    case $verb in
{verb_words}
    esac
    _files
}}
if [[ ${{funcstack[1]-}} == _expertree ]]; then
    _expertree "$@"
else
    compdef _expertree expertree
fi
"""


def zsh_script(verbs: Sequence[VerbWords]) -> str:
    """Return the script for zsh."""
    return _ZSH.format(
        version=__version__,
        verbs=" ".join(_zsh_described((verb.name,), verb.text) for verb in verbs),
        values="\n".join(
            _zsh_case(verb.name, names, takes, values)
            for verb in verbs
            for names, takes, values in _followed(verb)
        ),
        verb_words="\n".join(line for verb in verbs for line in _zsh_words(verb)),
    )


def _zsh_case(verb: str, names: Sequence[str], takes: str, values: Sequence[str]) -> str:
    pattern = "|".join(shlex.quote(f"{verb} {name}") for name in names)
    if values:
        return f"        {pattern}) compadd -- {shlex.join(values)}; return ;;"
    return f"        {pattern}) {'_files; ' if takes == 'path' else ''}return ;;"


def _zsh_words(verb: VerbWords) -> Iterator[str]:
    described = " ".join(_zsh_described(option.names, option.text) for option in verb.options)
    yield f"        {verb.name})"
    yield f"            described=({described})"
    yield "            _describe -o option described"
    if verb.operands:
        yield f"            compadd -- {shlex.join(verb.operands)}"
    if verb.keys:
        yield f"            compadd -S '' -- {shlex.join(verb.first_keys)}"
        yield f"            [[ $current == *.* ]] && compadd -S '' -- {shlex.join(verb.inner_keys)}"
    yield "            ;;"


def _zsh_described(names: Sequence[str], text: str) -> str:
    return " ".join(shlex.quote(f"{name}:{text.replace(':', chr(92) + ':')}") for name in names)


def fish_script(verbs: Sequence[VerbWords]) -> str:
    """Return the script for fish."""
    lines = [
        f"# Completion of expertree {__version__}, printed by `expertree completion fish`.",
        "complete -c expertree -e",
        "complete -c expertree -n __fish_use_subcommand -f",
    ]
    for verb in verbs:
        text = shlex.quote(verb.text)
        lines.append(f"complete -c expertree -n __fish_use_subcommand -a {verb.name} -d {text}")
    return "\n".join((*lines, *(line for verb in verbs for line in _fish_verb(verb)), ""))


def _fish_verb(verb: VerbWords) -> Iterator[str]:
    start = f"complete -c expertree -n '__fish_seen_subcommand_from {verb.name}'"
    for option in verb.options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        behind = {"nothing": "", "path": " -r -F", "other": " -x"}[option.takes]
        words = f" -a {_one_word(option.values)}" if option.values else ""
        yield f"{start} {names}{behind}{words} -d {shlex.quote(option.text)}"
    known = [f"{key}{value}" for key, values in verb.values.items() for value in values]
    top = [word for word in known if "." not in word.partition("=")[0]]
    inner = [word for word in known if word not in top]
    if first := (*verb.operands, *verb.first_keys, *top):
        yield f"{start} -a {_one_word(first)}"
    if deep := (*verb.inner_keys, *inner):
        has_dot = 'string match -q "*.*" -- (commandline -ct)'
        both = f"__fish_seen_subcommand_from {verb.name}; and {has_dot}"
        yield f"complete -c expertree -n {shlex.quote(both)} -a {_one_word(deep)}"


def _followed(verb: VerbWords) -> Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]:
    """Yield what something stands behind: its names, what that is, and the words if known."""
    for option in verb.options:
        if option.takes != "nothing":
            yield option.names, option.takes, option.values
    for key, values in verb.values.items():
        yield (key,), "other", values


def _one_word(words: Sequence[str] | Iterator[str]) -> str:
    return shlex.quote(" ".join(words))


SCRIPTS: Mapping[str, Render] = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
