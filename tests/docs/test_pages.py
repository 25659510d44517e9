"""The documentation is true where a machine can tell: links lead somewhere, commands exist and take
the options that they are given.
"""

import ast
import importlib.util
import re
from functools import cache

import pytest

from synthgrid.__main__ import GROUPS, build_parser
from tests.docs.reading import CODE, DOCS, LINK, ROOT, blocks, commands, name_of, pages, prose
from tools.docs_site.reference import command_parser
from tools.docs_site.reference import pages as generated_pages

COMMANDS = {name for group in GROUPS.values() for name in group}
WORDS = {"COMMAND", "--help", "--version"}  # in the place of a command
OF_OTHERS = {"--check", "--fp32-vae", "--listen", "--nproc-per-node", "--repo-type", "--version"}
NOT_OURS = DOCS / "reference" / "comfyui-contract.md"  # its options are ComfyUI's


@cache
def generated():
    return {DOCS / path for path in generated_pages()}


@cache
def parser_for(command):
    return build_parser([command])


@cache
def options_of(command):
    return set(command_parser(command)._option_string_actions)


@cache
def all_options():
    return set.union(*map(options_of, COMMANDS))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_to_a_file_leads_to_one(page):
    targets = [each.partition("#")[0] for each in LINK.findall(prose(page))]
    for target in targets:
        if target and not re.match(r"[a-z]+:", target):
            path = (page.parent / target.replace("%20", " ")).resolve()
            assert path.exists() or path in generated(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_what_stands_inside_a_list_is_indented_by_four_as_the_web_site_needs_it(page):
    inside = r"^(?: {1,3}| {5,7})(?:[-*] |\d+\. |```|!\[).*|(?<=\n\n) {1,3}\S.*"
    assert re.findall(inside, page.read_text("utf-8"), re.MULTILINE) == []


def test_the_navigation_lists_every_page_once():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(written | set(generated_pages()))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_in_a_block_parses_with_the_real_parser(page, capsys):
    for block in blocks(page):
        for words in commands(block.text):
            try:
                parser_for(words[0]).parse_args(words)
            except SystemExit:
                pytest.fail(f"{name_of(page)}: synthgrid {' '.join(words)}\n{capsys.readouterr()}")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_and_options_inside_sentences_exist(page):
    for code in CODE.findall(prose(page)):
        words = code.split()
        if words[0] == "synthgrid" and len(words) > 1 and words[1] not in WORDS:
            assert words[1] in COMMANDS, code
        if words[0] == "synthgrid":
            words = words[1:]
        if words and words[0] in COMMANDS:
            options = {each.split("=")[0] for each in words[1:] if each.startswith("--")}
            assert options <= options_of(words[0]), f"{name_of(page)}: {code}"


@pytest.mark.parametrize("page", [page for page in pages() if page != NOT_OURS], ids=name_of)
def test_every_option_that_a_sentence_names_is_one_of_some_command(page):
    known = all_options() | OF_OTHERS
    for code in CODE.findall(prose(page)):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code):
            assert option in known, f"{name_of(page)}: {code}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_make_targets_modules_and_python_code_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"python -m ((?:trainer|client|synthgrid)[\w.]*)", text):
        assert importlib.util.find_spec(module), f"{name_of(page)}: {module}"
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
