"""The documents are correct: links have targets, commands and options exist, code blocks can be parsed."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
import yaml

from tests.support.page_blocks import FENCE, blocks, documents
from tests.support.paths import ROOT
from zooforge.zoo_jobs.cli import zoo

NAMES = [str(path) for path in documents()]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(
    r"(?<![\w/.])((?:tests|storage|zoo_jobs|cluster|benchmarks|helm)/[\w./-]*\w\.(?:py|yaml|json|md|cpp|h))\b"
)
END_OF_COMMAND = {"|", ">", ">>", "<", "&&", "||", ";", "&", "2>", "<<"}


def codes(name: str, *languages: str) -> list[str]:
    return [block.code for block in blocks(Path(name)) if block.language in languages]


def prose(name: str) -> str:
    return FENCE.sub("", (ROOT / name).read_text())


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*?) *$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_lines(name: str) -> Iterator[list[str]]:
    """Words of every shell command: lines of shell blocks, and what stands between backticks."""
    lines = [line for block in codes(name, "sh", "bash", "console") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose(name))
    for line in lines:
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:
            continue  # a quote that is closed in another line
        command: list[str] = []
        for word in [*words, ";"]:
            if word in END_OF_COMMAND:
                if command:
                    yield command
                command = []
            elif command or "=" not in word or word.startswith("-"):
                command.append(word)


def refusal(words: list[str]) -> str | None:
    """The reason why `zoo` would refuse the command; None if its verb and options exist."""
    command: click.Command = zoo
    context = click.Context(command, info_name="zoo")
    words = [word for word in words if word not in ("-v", "--verbose")]
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-") or not re.fullmatch(r"[a-z-]+", words[0]):
            return None  # about the command in general
        subcommand = command.get_command(context, words[0])
        if subcommand is None:
            return f"`{context.command_path}` has no verb {words[0]!r}"
        context = click.Context(subcommand, parent=context, info_name=words[0])
        command, words = subcommand, words[1:]
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    known |= set(context.help_option_names)
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"`{context.command_path}` has no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    broken = []
    for link in LINK.findall(prose(name)):
        path, _, anchor = unquote(link).partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_verbs_and_options_exist(name: str) -> None:
    refusals = [refusal(words[1:]) for words in command_lines(name) if words[0].rpartition("/")[2] == "zoo"]
    assert [reason for reason in refusals if reason is not None] == []


@pytest.mark.parametrize("name", NAMES)
def test_targets_of_make_and_modules_of_python_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9 -]*):", "\n".join(map(Path.read_text, MAKEFILES)), re.MULTILINE))
    targets = {target for names in targets for target in names.split()}
    for words in command_lines(name):
        if words[0] == "make":
            asked = [word for word in words[1:] if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
            assert set(asked) <= targets, words
        if "-m" in words and "python" in words[0]:
            module = words[words.index("-m") + 1]
            assert importlib.util.find_spec(module) is not None, words


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_clone_exist(name: str) -> None:
    named = set(FILE.findall((ROOT / name).read_text()))
    assert [file for file in sorted(named) if "NAME" not in file and not (ROOT / file).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_code_blocks_can_be_parsed(name: str) -> None:
    for block in codes(name, "python"):
        ast.parse(block)
    for block in codes(name, "yaml"):
        list(yaml.safe_load_all(block))


MAKEFILES = [ROOT / "Makefile", ROOT / "cluster" / "cluster.mk"]


def test_make_lists_every_target_with_what_it_does() -> None:
    for path in MAKEFILES:
        for line in path.read_text().splitlines():
            if re.match(r"[a-z][a-z0-9 -]*:", line):
                assert re.search(r"## [A-Z]", line), f"{path.name}: {line}"


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert refusal(["plan", "all", "--on", "l4"]) is None
    assert (
        refusal(["cluster", "submit", "NAME", "--max-dollar", "5"]) == "`zoo cluster submit` has no option --max-dollar"
    )
    assert refusal(["store", "lst"]) == "`zoo store` has no verb 'lst'"
