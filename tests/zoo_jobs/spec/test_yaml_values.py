"""YAML from outside: its meaning, and refusals in one line before it can cost memory, time or the process."""

import subprocess
import sys

import pytest

from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.yaml_values import yaml_values

ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


def test_plain_values_are_those_of_yaml_1_2() -> None:
    values = yaml_values("a: [1e-3, no, 21:26, 0x10, ~, true, -7, .5, 007]\nb: &x {c: 1}\nd: *x\n", "file")
    assert values == {"a": [1e-3, "no", "21:26", "0x10", None, True, -7, 0.5, "007"], "b": {"c": 1}, "d": {"c": 1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: " + "7" * 5000, "file line 2, column 4: a number of 5000 digits; at most 40 are read"),
        ("a: !!int x", "file line 1, column 4: tag 'tag:yaml.org,2002:int'; write the plain value"),
        ("a: !!float x", "tag 'tag:yaml.org,2002:float'"),
        ("a: !!timestamp x", "tag 'tag:yaml.org,2002:timestamp'"),
        ("a: !!binary x", "tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {x, y}", "tag 'tag:yaml.org,2002:set'"),
        ("a: !!python/object/apply:os.system [x]", "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !own x", "tag '!own'"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("{a: " * 100_000, "nested deeper than 64 levels"),
        ("- " * 100_000, "nested deeper than 64 levels"),
        (ALIASES, "more than 2,000,000 values, aliases written out"),
        ("a: 1\na: 2", "'a' is named twice"),
        ("1: 2", "key 1 is not text"),
        ("[1, 2]: 3", "key [1, 2] is not text"),
        ("a: *b", "undefined alias"),
        ("a: [", "did not find"),
        ("a: b\n--- \nc: d", "found another document"),
        ("a: \0", "control characters are not allowed"),
        ("a: \ud800", "not Unicode text"),
        ("a: &a [*a]", "alias *a stands inside the value that it repeats"),
    ],
    ids=lambda value: value[:24].encode("unicode_escape").decode(),
)
def test_an_invalid_document_gives_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        yaml_values(text, "file")
    assert said in str(raised.value)
    assert str(raised.value).startswith("file")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


def test_a_document_that_would_overflow_the_stack_of_libyaml_ends_no_process() -> None:
    code = "from zooforge.zoo_jobs.spec.yaml_values import yaml_values; yaml_values('[' * 100_000, 'file')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith("InputError: file line 1, column 65: nested deeper than 64 levels\n")


def test_a_document_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(InputError, match="characters, at most"):
        yaml_values("#" * (16 * 2**20 + 1), "file")
