"""Price tables: the sheet that ships, one's own in TOML, and what of them holds on a day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.commercial_prices import commercial_price
from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceEntry, PriceTable, price_sheet, read_price_table
from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.errors import UnknownPrice

MINIMAL = """
[[price]]
model = "m"
effective = 2026-01-01
source = "a list"
input_usd_per_mtok = "0.40"
output_usd_per_mtok = "1.60"
"""
DAYS = st.dates(date(2020, 1, 1), date(2030, 1, 1))


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "usd_per_ktok"),
    [("ada", "0.0008"), ("babbage", "0.0012"), ("curie", "0.0060"), ("davinci", "0.0600")],
)
def test_the_gpt3_sheet_of_january_2022_ships(model: str, usd_per_ktok: str) -> None:
    """Prompt and completion cost the same; the older names of the models are known too."""
    sheet = price_sheet("gpt3-2022")
    price = sheet.price_of(model, date(2022, 1, 31))
    costs = [price.cost_nanousd(usage) for usage in (Usage(1000), Usage(output_tokens=1000))]
    assert [nanousd(usd_per_ktok)] * 2 == costs
    assert ("2022-01-01", True) == (price.effective, "openai.com/api/pricing" in price.source)
    assert sheet.price_of(f"text-{model}-001", date(2022, 1, 31)) is price


def test_there_is_no_other_sheet() -> None:
    """The message names those that ship."""
    with pytest.raises(ValueError, match="are gpt3-2022, not 'gpt4'"):
        price_sheet("gpt4")


def test_a_file_is_read_in_full(tmp_path: Path) -> None:
    """Every key, exactly; prices of 1,000 tokens become prices of 1,000,000."""
    table = read_price_table(
        written(
            tmp_path,
            MINIMAL
            + """cached_usd_per_mtok = "0.0000000001"
batch_input_usd_per_ktok = "0.0000000005"
batch_output_usd_per_ktok = "0"
usd_per_call = "0.001"
aliases = ["M latest"]
""",
        )
    )
    expected = Price(400_000_000, 1_600_000_000, 1, 1_000_000, "2026-01-01", "a list", 500, 0)
    assert expected == table.price_of("m", date(2026, 1, 1)) == table.price_of("m LATEST", date(2030, 1, 1))
    assert ("m" in table, "n" in table, table.names) == (True, False, ("M latest", "m"))


def test_the_newest_price_that_has_begun_holds(tmp_path: Path) -> None:
    """From its first day until the day before the next; today where no day is given."""
    second = MINIMAL.replace("2026-01-01", "2026-07-01").replace("0.40", "0.20")
    path = written(tmp_path, second + MINIMAL)
    table = read_price_table(path, today=lambda: date(2026, 6, 30))
    days = (date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 1), None)
    amounts = [table.price_of("m", day).input_nanousd_per_mtok for day in days]
    assert [400_000_000, 400_000_000, 200_000_000, 400_000_000] == amounts
    assert [date(2026, 7, 1)] == [entry.effective for entry in table.entries_on(date(2027, 1, 1))]
    assert ((), 1) == (table.entries_on(date(2025, 1, 1)), len(table.entries_on()))


def test_before_its_first_day_a_model_has_no_price(tmp_path: Path) -> None:
    """The message says from when there is one."""
    table = read_price_table(written(tmp_path, MINIMAL))
    with pytest.raises(UnknownPrice, match="of model 'm' from 2026-01-01 on, none on 2025-12-31"):
        table.price_of("m", date(2025, 12, 31))


def test_an_unknown_model_is_answered_with_those_called_alike() -> None:
    """Never with a price of 0."""
    with pytest.raises(UnknownPrice, match=r"no price of model 'Davinchi' \(near it: davinci"):
        price_sheet("gpt3-2022").price_of("Davinchi")
    with pytest.raises(UnknownPrice, match=r"no price of model 'x'$"):
        price_sheet("gpt3-2022").price_of("x")


@given(st.lists(st.tuples(st.sampled_from("ab"), DAYS), unique=True, max_size=8), DAYS)
def test_what_holds_is_the_last_that_began(known: list[tuple[str, date]], day: date) -> None:
    """However the entries are ordered."""
    entries = [PriceEntry(model, begin, Price(index + 1)) for index, (model, begin) in enumerate(known)]
    table = PriceTable("t", entries)
    begun = [entry for entry in entries if entry.model == "a" and entry.effective <= day]
    if begun:
        assert max(begun, key=lambda entry: entry.effective).price == table.price_of("a", day)
    else:
        with pytest.raises(UnknownPrice):
            table.price_of("a", day)


@pytest.mark.parametrize(
    ("line", "instead", "why"),
    [
        ('model = "m"', 'model = ""', "model is a string of printable characters, not ''"),
        ('model = "m"', "", r"price 1 \(no model\): model is a string"),
        ('model = "m"', 'model = "m"\nmodel = "n"', "is not TOML"),
        ('model = "m"', 'model = "m"\naliases = "n"', "aliases is a list of names, not 'n'"),
        ('model = "m"', 'model = "m"\naliases = [1]', "an alias is a string"),
        ('model = "m"', 'model = "m"\ninput = "1"', "'input' is not known: the keys are model, aliases"),
        ("2026-01-01", '"2026-01-01"', "effective is the first day .* not '2026-01-01'"),
        ("2026-01-01", "2026-01-01T00:00:00", "effective is the first day .* not datetime"),
        ("2026-01-01", "2026-02-30", "is not TOML"),
        ("2026-01-01", '2026-01-01\nlast_day = "never"', "last_day is the last day .* not 'never'"),
        ("2026-01-01", "2026-01-01\nlast_day = 2025-12-31", "last_day is 2025-12-31, before effective"),
        ('source = "a list"', "", "source is a string of printable characters, not None"),
        ('"0.40"', "0.40", "input_usd_per_mtok is an amount of dollars in quotes, .* not 0.4"),
        ('"0.40"', '"-0.40"', "from 0 up, not '-0.40'"),
        ('"0.40"', '"1e3"', "not '1e3'"),
        ('"0.40"', '"NaN"', "not 'NaN'"),
        ('"0.40"', '"0,40"', "not '0,40'"),
        ('"0.40"', '"1000000.01"', "above 1000000 dollars"),
        ('input_usd_per_mtok = "0.40"', 'input_usd_per_ktok = "1001"', "above 1000000 dollars"),
        ('input_usd_per_mtok = "0.40"', "", "input_usd_per_mtok is missing"),
        ('output_usd_per_mtok = "1.60"', "", "output_usd_per_mtok is missing"),
        ('"1.60"', '"1.60"\ninput_usd_per_ktok = "1"', "input_usd_per_ktok stands beside the same price"),
        ('"1.60"', '"1.60"\nbatch_input_usd_per_mtok = "1"', "a batch price has both"),
        ("[[price]]", "[[prices]]", "'prices' is not known: a price table holds"),
        ("[[price]]", "[price]", "has no .* entry"),
        ("[[price]]", 'name = "x"\n[[price]]', "'name' is not known"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, line: str, instead: str, why: str) -> None:
    """With the file, the entry and the value: a wrong price is wrong money."""
    assert MINIMAL.count(line) == 1
    with pytest.raises(ValueError, match=why) as refused:
        read_price_table(written(tmp_path, MINIMAL.replace(line, instead)))
    assert "mine.toml" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"price = 1", b"price = []", b"price = [1]", b"[" * 5000])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, not UTF-8, or of another shape."""
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.toml"):
        read_price_table(path)


def test_two_prices_from_one_day_are_refused(tmp_path: Path) -> None:
    """In whatever case the model's name is written."""
    with pytest.raises(ValueError, match=r"two prices of 'm' from 2026-01-01 on"):
        read_price_table(written(tmp_path, MINIMAL + MINIMAL.replace('"m"', '"M"')))


def test_an_alias_is_the_models_on_all_its_dates(tmp_path: Path) -> None:
    """Whichever of its entries names it: an alias never keeps a price that is over."""
    second = MINIMAL.replace("2026-01-01", "2026-07-01").replace("0.40", "0.20")
    for text in (MINIMAL + 'aliases = ["m-latest"]\n' + second, second + 'aliases = ["m-latest"]\n' + MINIMAL):
        table = read_price_table(written(tmp_path, text))
        for day in (date(2026, 6, 30), date(2026, 7, 1)):
            assert table.price_of("M-Latest", day) is table.price_of("m", day)
    assert table.price_of("m-latest", date(2026, 7, 1)).input_nanousd_per_mtok == 200_000_000


def test_a_name_of_two_models_is_refused(tmp_path: Path) -> None:
    """Two aliases, or an alias and a model, in whatever case and from whatever day."""
    other = MINIMAL.replace('"m"', '"n"').replace("2026-01-01", "2026-07-01")
    with pytest.raises(ValueError, match=r"mine\.toml' calls two models 'M', 'm' and 'n': a name is one model's"):
        read_price_table(written(tmp_path, MINIMAL + other + 'aliases = ["M"]\n'))
    with pytest.raises(ValueError, match="calls two models 'x', 'm' and 'n'"):
        read_price_table(written(tmp_path, MINIMAL + 'aliases = ["X"]\n' + other + 'aliases = ["x"]\n'))


def test_after_its_last_day_a_model_has_no_price(tmp_path: Path) -> None:
    """Until its next entry begins, which may be sooner."""
    later = MINIMAL.replace("2026-01-01", "2026-07-01")
    table = read_price_table(written(tmp_path, MINIMAL + "last_day = 2026-01-31\n" + later))
    assert [1, 0, 1] == [len(table.entries_on(date(2026, *day))) for day in ((1, 31), (2, 1), (7, 1))]
    with pytest.raises(UnknownPrice, match=r"'m' until 2026-01-31, none on 2026-06-30: .*table of your own \(docs/pr"):
        table.price_of("m", date(2026, 6, 30))
    assert table.price_of("m", date(2026, 7, 1)).effective == "2026-07-01"


@pytest.mark.parametrize("model", ["davinci", "text-ada-001"])
def test_the_gpt3_sheet_ends_when_its_prices_were_lowered(model: str) -> None:
    """What came after it is not known here; nobody is told the old price for it."""
    sheet = price_sheet("gpt3-2022")
    assert sheet.price_of(model, date(2022, 8, 31)) is sheet.price_of(model, date(2022, 1, 1))
    with pytest.raises(UnknownPrice, match=r"until 2022-08-31, none on 2022-09-01: .*write a table of your own"):
        find_price(model, on=date(2022, 9, 1))


@pytest.mark.parametrize("on", [datetime(2022, 3, 1, tzinfo=UTC), "2022-03-01", 20220301])  # fmt: skip
def test_what_is_no_day_is_refused(on: Any) -> None:
    """By name, wherever a day is taken."""
    sheet = price_sheet("gpt3-2022")
    asks: list[Callable[[], object]] = [
        lambda: find_price("davinci", on=on),
        lambda: sheet.price_of("davinci", on),
        lambda: sheet.entries_on(on),
        lambda: commercial_price("gpt-4o", on),
    ]
    for ask in asks:
        with pytest.raises(TypeError, match=r"on is a day, such as datetime\.date\(2026, 1, 31\), not "):
            ask()


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors put one in front of what they save as UTF-8."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert read_price_table(path).names == ("m",)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """As any file does."""
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        read_price_table(tmp_path / "absent.toml")
