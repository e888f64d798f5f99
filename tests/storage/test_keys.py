"""Keys and addresses are read back as they were formatted."""

import pytest

from zooforge.storage import keys


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://b/p/zoos/a", ("s3://b/p", "a", None)),
        ("zoos/a", (".", "a", None)),
        ("/zoos/a/", ("/", "a", None)),
        ("x/zoos/y/zoos/a/versions/0012", ("x/zoos/y", "a", 12)),
        ("s3://b/p", None),
        ("s3://b/zoos/", None),
        ("s3://b/zoos/a/versions/x", None),
        ("s3://b/zoos/a/versions", None),
        (f"s3://b/zoos/a/versions/{5000 * '1'}", None),
    ],
)
def test_the_address_of_a_zoo_is_store_name_and_version(address: str, expected: object) -> None:
    assert keys.parse_zoo_url(address) == expected


def test_an_attempt_is_read_back_from_its_keys() -> None:
    attempt = keys.attempt_id(1_790_000_000.9, "0a1b")
    assert attempt == "20260921T141320Z-0a1b" and keys.attempt_seconds(attempt) == 1_790_000_000
    run = "ab" * 8
    assert keys.parse_attempt_key(keys.attempt_key(run, attempt)) == (attempt, False)
    assert keys.parse_attempt_key(keys.attempt_end_key(run, attempt)) == (attempt, True)
    assert keys.parse_attempt_key(f"runs/{run}/attempts/x.json") is None
    assert keys.parse_attempt_key(f"runs/{run}/attempts/20269999T999999Z-0a1b.json") is None
    assert keys.is_driver_claim(keys.driver_claim(attempt)) and not keys.is_driver_claim("0000000-all")


def test_a_zoo_is_read_back_from_any_of_its_keys() -> None:
    assert keys.parse_zoo_key(keys.copy_key("a-b", 3, "README.md")) == "a-b"
    assert keys.parse_zoo_key(keys.head_key("a-b")) == "a-b"
    assert keys.parse_zoo_key(keys.run_key("ab" * 8)) is None
