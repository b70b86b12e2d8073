"""What is simulated: data, search, budget and provider; what cannot be is refused before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import SHEETS, PriceTable, price_sheet
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.synthetic import Landscape, SyntheticLandscape, SyntheticTexts
from lmaas_sdk.registry import load_backend
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.quota_presets import quotas_of
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset, get_preset
from lmaas_sdk.tuning.scheduling import Scheduling

__all__ = ["Scenario", "price_named"]

_FIRST_YEAR, _LAST_YEAR = 1970, 2999  # so that what follows has a date

Texts = Dataset | SyntheticTexts


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """A tuning run and the world that it takes place in.

    Args:
        train, dev: The data, or their sizes; without `dev` nothing is scored on it.
        preset, population: Settings of the search, and the candidates of a generation where they are others.
        budget: Its limits, of which every simulated run has all; None: 8000 evaluations.
        conditions: What provider and calendar decide.
        candidates_a_call: Most candidates that a call may carry; None: a whole generation.
        concurrency: Most calls under way at once; None: what the quotas say, if anything.
        landscape: What is searched.
        max_wait_s: As of `Tuner.fit`.
        scheduling, retry: As of `Tuner`.

    Raises:
        ValueError: A setting is out of its range; the message names it.
        TypeError: A setting is of another type.
    """

    train: Texts = field(default_factory=SyntheticTexts)
    dev: Texts | None = None
    preset: str | Preset = DEFAULT_PRESET
    population: int | None = None
    budget: Budget | None = None
    conditions: Conditions = field(default_factory=Conditions)
    candidates_a_call: int | None = None
    concurrency: int | None = None
    landscape: Landscape = field(default_factory=SyntheticLandscape)
    max_wait_s: float | None = None
    scheduling: Scheduling = field(default_factory=Scheduling)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        for name in ("train", "dev"):
            texts: object = getattr(self, name)
            if not isinstance(texts, Dataset | SyntheticTexts) and (name == "train" or texts is not None):
                raise TypeError(f"{name} is a Dataset or SyntheticTexts(count, tokens), not {texts!r:.80}")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget is a Budget, such as Budget(evaluations=8000), not {self.budget!r:.80}")
        for name in ("candidates_a_call", "concurrency"):
            if (count := getattr(self, name)) is not None:
                whole_number(name, count, at_least=1)
        if self.max_wait_s is not None and not self.max_wait_s >= 0:
            raise ValueError(f"max_wait_s is at least 0, or None for no limit, not {self.max_wait_s!r}")
        wall_s = None if self.budget is None else self.budget.limits["wall_s"]
        patience_s = (self.max_wait_s, self.retry.max_wait_s, None if wall_s is None else float(wall_s))
        self.conditions.failures.check_ends(*patience_s)
        _check_began(self.conditions.began)
        _ = self.search
        load_backend("mock", **self.provider())  # it refuses what cannot be

    @property
    def search(self) -> Preset:
        """The preset with this population."""
        preset = get_preset(self.preset)
        return preset if self.population is None else replace(preset, population=self.population)

    @property
    def limits(self) -> Limits:
        """The quota of scoring, this concurrency included."""
        limits = quotas_of(self.conditions.quotas, "score") or Limits()
        both = [most for most in (limits.concurrency, self.concurrency) if most is not None]
        return replace(limits, concurrency=min(both, default=None))

    @property
    def zone(self) -> tzinfo:
        """Whose calendar its days are told by: the quota's, else that of its first moment, else UTC."""
        if self.limits.day_time_zone is not None:
            return ZoneInfo(self.limits.day_time_zone)
        began = self.conditions.began
        return UTC if began is None or began.tzinfo is None else began.tzinfo

    @property
    def evaluations(self) -> int:
        """How many it would have if nothing else limited it."""
        limit = None if self.budget is None else self.budget.limits["evaluations"]
        return DEFAULT_EVALUATIONS if limit is None else math.floor(limit)

    def began(self) -> datetime:
        """Its first moment, in its zone."""
        return (self.conditions.began or datetime.now(UTC)).astimezone(self.zone)

    def data(self, seed: int) -> tuple[Dataset, Dataset | None]:
        """The train and the dev set of a run."""
        return _drawn(self.train, seed, "train"), None if self.dev is None else _drawn(self.dev, seed, "dev")

    def provider(self, *datasets: Dataset | None) -> dict[str, object]:
        """Options of the mock that make it this provider, but for its failures; it is asked about these data."""
        return {
            **self.landscape.options(*(each for each in datasets if each is not None)),
            "price": self.conditions.price,
            "limits": self.limits,
            "latency_s": self.conditions.latency or 0.0,
            "max_candidates": self.candidates_a_call or self.search.population + self.scheduling.extra,
        }

    def unlimited(self, evaluations: int) -> Scenario:
        """The same search with nothing in its way, as long as it says or as this one got."""
        return replace(
            self,
            budget=Budget(evaluations=max(evaluations, self.evaluations), warn_at=()),
            conditions=Conditions(began=datetime.fromtimestamp(0, UTC)),
            candidates_a_call=None,
            concurrency=None,
            max_wait_s=None,
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: what a reader has to know of it."""
        limits = {} if self.budget is None else self.budget.limits
        return {
            "train": _told(self.train),
            "dev": None if self.dev is None else _told(self.dev),
            "preset": self.search.to_dict(),
            "budget": {unit: None if limit is None else float(limit) for unit, limit in limits.items()},
            "price": None if self.conditions.price is None else self.conditions.price.to_dict(),
            "candidates_a_call": self.candidates_a_call,
            "concurrency": self.limits.concurrency,
            "requests_per_minute": self.limits.requests_per_minute,
            "tokens_per_minute": self.limits.tokens_per_minute,
            "requests_per_day": self.limits.requests_per_day,
            "day_time_zone": self.limits.day_time_zone,
            "max_wait_s": self.max_wait_s,
            "latency": None if self.conditions.latency is None else asdict(self.conditions.latency),
            "failures": asdict(self.conditions.failures),
            "landscape": dict(self.landscape.to_dict()),
        }


def _check_began(began: datetime | None) -> None:
    if began is not None and not _FIRST_YEAR <= began.year <= _LAST_YEAR:
        raise ValueError(f"began is in a year from {_FIRST_YEAR} to {_LAST_YEAR}, not {began.year}")


def _drawn(texts: Texts, seed: int, name: str) -> Dataset:
    return texts.dataset(seed, name) if isinstance(texts, SyntheticTexts) else texts


def _told(texts: Texts) -> Mapping[str, object]:
    if isinstance(texts, SyntheticTexts):
        return {"texts": texts.count, "tokens": texts.tokens, "classes": texts.classes}
    return {"texts": len(texts), "name": texts.name}


def price_named(name: str) -> Price:
    """The price that a name stands for, whenever it held.

    Args:
        name: "gpt3-2022/davinci": a sheet that ships and one of its models; or a model's name, as of `find_price`.

    Raises:
        ValueError: There is no such sheet.
        UnknownPrice: Nobody has a price of that model.
    """
    sheet, slash, model = name.partition("/")
    if slash and sheet in SHEETS:
        return _last_price(price_sheet(sheet), model)
    for table in map(price_sheet, SHEETS):
        if name in table:
            return _last_price(table, name)
    return find_price(name)


def _last_price(table: PriceTable, model: str) -> Price:
    """The price of the last day that the table has one for."""
    entries = [entry for entry in table.entries if model.casefold() in map(str.casefold, entry.names)]
    return entries[-1].price if entries else table.price_of(model)  # which says what it has
