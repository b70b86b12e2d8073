"""The file of `lmaas serve --limits`: what it says, and what it may not say."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lmaas_backends.roberta.accounts import Terms
from lmaas_backends.roberta.server import main
from lmaas_backends.roberta.server_limits import ServerTerms, read_limits_file, read_terms
from lmaas_backends.roberta.server_options import add_arguments, read_accounts, read_server_terms
from lmaas_sdk.backend import Limits, Price

OWN = "the server's own price"
EVERYTHING = """
balance_usd = "25.00"

[price]
input_usd_per_mtok = "0.40"
output_usd_per_ktok = "0.0012"
cached_usd_per_mtok = "0.04"
batch_input_usd_per_mtok = "0.20"
batch_output_usd_per_mtok = "0.60"
usd_per_call = "0.0001"
effective = 2026-01-31
source = "our list"

[limits]
requests_per_minute = 60
tokens_per_minute = 40000
requests_per_day = 100
day_time_zone = "Asia/Shanghai"
concurrency = 4

[endpoints.features]
requests_per_day = 1000
tokens_per_minute = "unlimited"

[keys.bob]
balance_usd = "unlimited"
price = "free"
limits.requests_per_day = 5000
limits.day_time_zone = "rolling"
endpoints.score.concurrency = 1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text, "utf-8")
    return path


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_file_says_price_quotas_and_balance_of_every_key_and_of_one(tmp_path: Path) -> None:
    """Everything that a file can say; the narrower table counts, limit by limit."""
    found = read_terms(read_limits_file(written(tmp_path, EVERYTHING)), "limits.toml")

    price = Price(400_000_000, 1_200_000_000, 40_000_000, 100_000, "2026-01-31", "our list", 200_000_000, 600_000_000)
    limits = Limits(60, 40_000, 100, "Asia/Shanghai", 4)
    features = Limits(60, None, 1_000, "Asia/Shanghai", 4)
    assert Terms(price, limits, 25_000_000_000, (("features", features),)) == found.terms
    limits = Limits(60, 40_000, 5_000, None, 4)
    assert {
        "bob": Terms(
            None,
            limits,
            None,
            (("score", Limits(60, 40_000, 5_000, None, 1)), ("features", Limits(60, None, 5_000, None, 4))),
        )
    } == found.own_terms


def test_an_empty_file_is_no_terms(tmp_path: Path) -> None:
    """Nothing said: free, without limits and balance."""
    assert ServerTerms() == read_terms(read_limits_file(written(tmp_path, "")), "limits.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limits", "is not TOML"),
        ("limit = 1", "limit is not known here: what is known is balance_usd, price, limits, endpoints, keys"),
        ("limits = 3", "limits is a table, not 3"),
        ("[limits]\nrequests_per_hour = 1", "limits.requests_per_hour is not known here"),
        ("[limits]\nrequests_per_day = 0", 'limits.requests_per_day is a whole number from 1 to 2^53, or "unlimited"'),
        ("[limits]\nrequests_per_day = true", "not True"),
        ("[limits]\nrequests_per_minute = 1.5", "not 1.5"),
        ("[limits]\nrequests_per_minute = 9007199254740993", "not 9007199254740993"),
        ('[limits]\nday_time_zone = "Mars/Base"', "limits.day_time_zone is a time zone such as"),
        ("[limits]\nday_time_zone = 3", "not 3"),
        ("balance_usd = 5.0", 'balance_usd is an amount of dollars in quotes, such as "0.40", not 5.0'),
        ('balance_usd = "-1"', "not '-1'"),
        ('balance_usd = "9999999999999999999"', "balance_usd: an amount in dollars is below"),
        ('price = "cheap"', "price is a table, not 'cheap'"),
        ("[price]\n", "price lacks input_usd_per_mtok"),
        ('[price]\noutput_usd_per_mtok = "1"', "price lacks input_usd_per_mtok"),
        ('[price]\ninput_usd_per_mtok = "1"\ninput_usd_per_ktok = "1"', "price.input_usd_per_ktok stands beside"),
        ('[price]\ninput_usd_per_ktok = "1001"', "price.input_usd_per_ktok is '1001', above 1000000 dollars"),
        ('[price]\ninput_usd_per_mtok = "1"\nbatch_input_usd_per_mtok = "1"', "price: a batch price has both"),
        ('[price]\ninput_usd_per_mtok = "1"\neffective = "today"', "price.effective is a day such as"),
        ('[price]\ninput_usd_per_mtok = "1"\nsource = 3', "price.source is a string"),
        ("[endpoints.usage]\nconcurrency = 1", "endpoints.usage is not known here: what is known is score, features"),
        ("[endpoints.score]\ntokens = 1", "endpoints.score.tokens is not known here"),
        ("[keys]\nbob = 3", "keys.bob is a table, not 3"),
        ("[keys.bob]\nlimits.concurrency = 0", "keys.bob.limits.concurrency is a whole number"),
        ("[keys.bob.keys.x]", "keys.bob.keys is not known here"),
        ("[keys.eve]\nprice = 'free'", "table 1 of [keys] is about no API key: their names are ann, bob"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the file, the place and the value, and the exit code is 2, before any model is loaded."""
    monkeypatch.setenv("LMAAS_SERVER_API_KEYS", "ann=test-key-of-ann,bob=test-key-of-bob")
    path = written(tmp_path, text)

    assert 2 == main(["--limits", str(path)])
    message = capsys.readouterr().err
    assert told in message
    assert str(path) in message


def test_options_say_the_same_for_every_key(tmp_path: Path) -> None:
    """Without a file the options are the terms of all; a day ends at midnight UTC unless told otherwise."""
    every = ["--price-usd-per-1k-tokens=0.0004", "--balance-usd=5", "--requests-per-minute=1", "--tokens-per-minute=2"]
    found = read_server_terms(parsed(*every, "--requests-per-day=3"))
    rolling = read_server_terms(parsed("--requests-per-day=3", "--time-zone=rolling"))

    price = Price(400_000_000, source=OWN)
    assert ServerTerms(Terms(price, Limits(1, 2, 3, "UTC"), 5_000_000_000)) == found
    assert Limits(requests_per_day=3) == rolling.terms.limits


def test_options_and_file_are_put_together(tmp_path: Path) -> None:
    """What an option says for every key, the file may say for an endpoint or one key, and the other way round."""
    path = written(tmp_path, '[limits]\nday_time_zone = "Europe/Rome"\n[endpoints.features]\nrequests_per_minute = 9\n')
    terms = read_server_terms(parsed(f"--limits={path}", "--requests-per-day=3", "--requests-per-minute=1")).terms

    assert Limits(1, None, 3, "Europe/Rome") == terms.limits
    assert Limits(9, None, 3, "Europe/Rome") == terms.limits_of("features")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("[limits]\nrequests_per_minute = 1", "--requests-per-minute=1"),
        ("[limits]\nrequests_per_day = 1\nday_time_zone = 'UTC'", "--time-zone=UTC"),
        ("price.input_usd_per_mtok = '1'", "--price-usd-per-1k-tokens=1"),
        ("balance_usd = '1'", "--balance-usd=1"),
    ],
)
def test_the_same_thing_said_twice_is_refused(text: str, option: str, tmp_path: Path) -> None:
    """An option and a table of the file that are about the same thing are named, even where they agree."""
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=f"says for every key what {option.partition('=')[0]} says too"):
        read_accounts(parsed(f"--limits={path}", option))


def test_a_file_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The path is in the message, and the exit code is 2."""
    assert 2 == main(["--limits", "/no/such/file"])
    assert "/no/such/file" in capsys.readouterr().err
