"""docs/serving.md: its example is served, its tables name what there is, its command makes a key."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from served import served

from lmaas_backends.roberta.accounts import ENDPOINTS, Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.server_limits import ServerTerms, read_limits_file, read_terms
from lmaas_backends.roberta.wire_card import read_card
from lmaas_sdk.backend import Limits, Price

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
AMOUNTS = [f"{kind}_usd_per_{unit}" for kind in ("input", "output", "cached") for unit in ("mtok", "ktok")]
BATCH_AMOUNTS = [f"batch_{name}" for name in AMOUNTS[:4]]


def example(folder: Path) -> ServerTerms:
    """The terms of the page's file."""
    path = folder / "limits.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0], "utf-8")
    return read_terms(read_limits_file(path), str(path))


def names_in_table(header: str) -> list[str]:
    """The code words in the first column of the table with that header."""
    rows = PAGE.split(header, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


async def test_the_rate_limited_remote_is_served_as_the_page_says(tmp_path: Path) -> None:
    """The example's keys get the price, the limits and the balance that the file says for them."""
    found = await asyncio.to_thread(example, tmp_path)
    async with served(terms=found.terms, own_terms=dict(found.own_terms)) as server:
        keys = {name: f"test-key-of-{name}" for name in ("ann", "bob")}
        cards = [(await server.ask("GET", "/v1/models", key=key))[1]["models"][0] for key in keys.values()]
        balances = [
            (await server.ask("GET", "/v1/usage", key=key))[1]["usage"][name]["balance_nanousd"]
            for name, key in keys.items()
        ]
        headers = (await server.score())[2]
    ann, bob = map(read_card, cards)

    price = Price(400_000_000, source="the server's own price")
    assert (price, price, [5_000_000_000, None]) == (ann.price, bob.price, balances)
    assert Limits(60, 40_000, 100, "Asia/Shanghai", 4) == ann.limits_of("score")
    assert Limits(60, 40_000, 1_000, "Asia/Shanghai", 4) == ann.limits_of("features")
    assert {Limits(60, 40_000, 5_000, "Asia/Shanghai", 4)} == {bob.limits_of(endpoint) for endpoint in ENDPOINTS}
    assert "99" == headers["x-ratelimit-remaining-requests-day"]


def test_the_tables_name_all_that_a_file_may_hold(tmp_path: Path) -> None:
    """Every name in the tables is understood, and a name of the model card's limits is in them."""
    assert [*AMOUNTS, *BATCH_AMOUNTS, "usd_per_call", "effective", "source"] == names_in_table("| in `price` | value |")
    assert {field.name for field in fields(Limits)} == set(names_in_table("| in `limits`, `endpoints.E` | value |"))
    assert ["balance_usd", "price", "limits", "endpoints.score", "endpoints.features", "keys.NAME"] == names_in_table(
        "| key | value |"
    )
    for amount in (name for name in (*AMOUNTS, *BATCH_AMOUNTS) if name.endswith("mtok")):
        price = {"input_usd_per_mtok": "1", "batch_input_usd_per_mtok": "1", "batch_output_usd_per_mtok": "1"}
        assert ServerTerms() != read_terms({"price": price | {amount: "2"}}, "a table")
    assert ServerTerms(Terms(price=None)) == read_terms({"price": "free", "limits": {"day_time_zone": "rolling"}}, "it")


def test_the_command_makes_a_key_and_its_hash() -> None:
    """What the page's one line prints is a key and the hash under which the server knows it."""
    (line,) = re.findall(r"\$ (python -c .*)", PAGE)
    printed = subprocess.run([sys.executable, *shlex.split(line)[1:]], capture_output=True, text=True, check=True)
    key, entry = printed.stdout.split()

    assert f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" == entry
    assert "ann" == ApiKeys((f"ann={entry}",)).name_of(key)
