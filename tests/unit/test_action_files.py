"""Folders of YAML files: what loads, and how every mistake is shown with its file, line and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from interlock.actions.files import load
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from pathlib import Path


def refusal(folder: Path, *texts: str | bytes) -> list[str]:
    """Return the lines of the refusal of these files, named 0.yaml, 1.yaml, …, without their folder."""
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidDefinition) as caught:
        load(folder)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_file_may_hold_several_actions_and_each_knows_its_line(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(
        "# comment\naction: two\nfunction: package.module:name\n---\n\naction: three\ncommand: [x]\n---\n"
    )
    (tmp_path / "a.yaml").write_text("\ufeffaction: one\ncommand: [x]\n")
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    assert [(each.action.action, each.place) for each in load(tmp_path)] == [
        ("one", f"{tmp_path}/a.yaml:1"),
        ("two", f"{tmp_path}/b.yml:2"),
        ("three", f"{tmp_path}/b.yml:6"),
    ]


def test_an_empty_folder_defines_nothing_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert load(tmp_path) == []
    with pytest.raises(InvalidDefinition, match="there is no such folder of action definitions; create it"):
        load(tmp_path / "absent")


def test_words_that_older_yaml_reads_as_booleans_stay_words(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("action: a\ncommand: [echo, no, 12:30, 2024-01-01]\nretry: {on: [failed]}\n")
    (definition,) = load(tmp_path)
    assert definition.action.command == ("echo", "no", "12:30", "2024-01-01")
    assert definition.action.retry.on == {"failed"}


def test_numbers_are_read_as_yaml_writes_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "action: a\nhttp: {url: 'https://a/', body: [0x1F, 0o17, 1_000, 1e3, -2.5, ~, true, !!str 1]}\n"
    )
    (definition,) = load(tmp_path)
    assert definition.action.http is not None
    assert definition.action.http.body == [31, 15, 1000, 1000, -2.5, None, True, "1"]


def test_every_problem_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    first = """\
action: checksum
comand: [sha256sum]
retry:
  max_atempts: 3
  backoff: exp
  on: [failled]
pool: relay
limit: "3"
---
- not an action
---
action: copy
command: [cp, "{{ params.form }}", 8080, "{{ to }}"]
params: {properties: {from: {}, to: {}}}
"""
    second = """\
action: '?'
command: scp {{ params.path }} host
timeout: {run: 10 parsecs}
"""
    assert refusal(tmp_path, first, second) == [
        '0.yaml:2: comand: unknown field; did you mean "command"?',
        '0.yaml:4: retry.max_atempts: unknown field; did you mean "max_attempts"?',
        "0.yaml:5: retry.backoff: 'exp' is not one of constant, linear, exponential",
        "0.yaml:6: retry.on[0]: 'failled' is not one of failed, timed_out; did you mean \"failed\"?",
        '0.yaml:7: pool: the pool name "relay" is reserved for Interlock itself; choose another',
        "0.yaml:8: limit: must be a whole number, found '3'",
        "0.yaml:10: an action is a mapping of fields, beginning with `action: name`",
        '0.yaml:13: command[2]: must be a text, found 8080; put it in quotes: "8080"',
        (
            '1.yaml:1: action: "?" cannot be a name; use 1 to 100 of a-z, 0-9, dot, underscore and hyphen, '
            "beginning with a letter or a digit"
        ),
        '1.yaml:2: command: must be a list, such as [program, "first argument"]; no shell takes a line apart',
        '1.yaml:3: timeout.run: "10 parsecs" is not a duration; write a number with a unit: 250ms, 10s, 5m, 2h or 1d',
    ]


def test_templates_and_schemas_are_checked_with_the_line_of_their_field(tmp_path: Path) -> None:
    text = """\
action: copy
command:
  - cp
  - "{{ params.form }}"
  - "{{ to }}"
  - "{{ params.to"
params: {properties: {from: {}, to: {}}}
---
action: move
command: [mv]
params:
  type: object
  requierd: [from]
---
action: call
http:
  url: "https://example.com/{{ params.id | urlencod }}"
  headers:
    X-Id: "{{ id }}"
"""
    assert refusal(tmp_path, text) == [
        '0.yaml:4: command[1]: unknown parameter "form"; did you mean "from"?',
        '0.yaml:5: command[2]: "to" is not known here; write params.to',
        (
            "0.yaml:6: command[3]: the template is not valid: unexpected end of input, "
            "expected end of variable block (in '{{ params.to')"
        ),
        '0.yaml:13: params.requierd: unknown keyword; did you mean "required"?',
        "0.yaml:17: http.url: the template is not valid: filter urlencod is unknown",
        '0.yaml:19: http.headers.X-Id: "id" is not known here; templates see params.<name> and nothing else',
    ]


def test_a_name_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    assert refusal(tmp_path, "action: a\ncommand: [x]\n", "\n\naction: a\ncommand: [y]\n") == [
        "1.yaml:3: the action a is already defined at 0.yaml:1; rename or remove one"
    ]


VALID = "action: a\ncommand: [x]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{VALID}command: [y]\n", "3: command: given twice, first on line 2; keep one"),
        ("action: a\n\tcommand: [x]\n", "2: not valid YAML: a tab is used for indentation; indent with spaces"),
        ("action: a: b\n", "1: not valid YAML: a value that holds `: ` needs quotes around it"),
        ("a: [*rest]\n", "1: not valid YAML: aliases (*name) are not supported; write the value out"),
        (f"{VALID}1: 2\n", "3: the key 1 is read as a number; put it in quotes"),
        (
            "action: a\ncommand: [x, {{ params.y }}]\n",
            (
                "2: command[1]: a key is a list or a mapping; keys are texts "
                "(a value that begins with {{ needs quotes around it)"
            ),
        ),
        ("action: a\ncommand: [!tag x]\n", "2: command[0]: the tag !tag is not supported; write a plain value"),
        (
            "action: a\ncommand: [.inf]\n",
            "2: command[0]: .inf is not a number that JSON can hold; put it in quotes if it is a text",
        ),
        (
            f"{VALID}params: {{<<: {{type: object}}}}\n",
            "3: params: merge keys (<<) are not supported; write the fields out",
        ),
        (b"action: a\ncommand: ['\0']\n", "2: character U+0000 is not allowed in YAML; remove it"),
        (b"action: a\ncommand: [\xff]\n", "2: the file is not UTF-8 text; save it as UTF-8"),
        (
            'action: a\ncommand: ["\\0"]\n',
            "2: command[0]: the text holds a NUL character, which no database text or command can carry; remove it",
        ),
        (
            f"action: a\ncommand: [{'1' * 5000}]\n",
            f"2: command[0]: {'1' * 40} is not a number that JSON can hold; put it in quotes if it is a text",
        ),
        (f"{VALID}http: 3\n", "3: http: must be a mapping of names to values, found 3"),
        (
            "action: a\nhttp: {url: {{ params.x }}}\n",
            (
                "2: http.url: a key is a list or a mapping; keys are texts "
                "(a value that begins with {{ needs quotes around it)"
            ),
        ),
        (
            "action: a\ncommand: [{b: c}]\n",
            "2: command[0]: must be a text, found a mapping; a value that begins with {{ needs quotes around it",
        ),
        ("action: a\ncommand: [[b]]\n", "2: command[0]: must be a text, found ['b']"),
        (f"{VALID}retry: {{on: failed}}\n", "3: retry.on: must be a list, found 'failed'"),
        (
            f"{VALID}params: {{a: {'[' * 70}{']' * 70}}}\n",
            f"3: params.a{'[0]' * 62}: nested too deeply; an action needs a few levels, not more than 64",
        ),
        ("[" * 600, "1: nested too deeply; an action needs a few levels, not more than 64"),
        (
            f"%YAML 1.1\n---\n{VALID}retry: {{on: [failed]}}\n",
            "5: retry: the key on is read as true or false; put it in quotes",
        ),
        ("action: a\n", "1: an action has exactly one of command, function and http; found none"),
        ("command: [x]\n", "1: action: is missing; give the action a name, such as `action: checksum`"),
        ("# " + "x" * 1_048_576, "1: the file is larger than 1 MiB; split it"),
    ],
)
def test_a_trap_of_yaml_is_named_with_its_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert refusal(tmp_path, text) == [f"0.yaml:{expected}"]


def test_aliases_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30))
    lines = refusal(tmp_path, f"l0: &l0 [x]\n{levels}\n")
    assert "0.yaml:2: l1[0]: aliases (*name) are not supported; write the value out" in lines


def test_a_file_that_cannot_be_read_is_one_problem_among_others(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert (
        refusal(tmp_path, "action: a\n")[-1]
        == "folder.yaml:1: cannot be read: Is a directory; repair it or move it away"
    )


def test_a_mistake_late_in_a_file_does_not_hide_the_earlier_ones(tmp_path: Path) -> None:
    assert refusal(tmp_path, "acton: a\ncommand: [x]\n---\n\tx\n") == [
        "0.yaml:1: action: is missing; give the action a name, such as `action: checksum`",
        '0.yaml:1: acton: unknown field; did you mean "action"?',
        "0.yaml:4: not valid YAML: a tab is used for indentation; indent with spaces",
    ]
