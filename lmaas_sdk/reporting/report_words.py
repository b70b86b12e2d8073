"""Amounts as a report says them."""

from __future__ import annotations

from lmaas_sdk.tuning.run_record import RunRecord, ScoredOnTest

__all__ = ["CAUSES", "NOT_RECORDED", "budget_words", "cause_words", "duration", "number", "quantity", "score_words"]

_UNBROKEN = "\N{NO-BREAK SPACE}"
NOT_RECORDED = "not recorded"
CAUSES = {
    "quota": "the client's own quota",
    "rate_limit": "the provider refused (429)",
    "retry": "backoff after a failure",
    "outage": "the backend was away",
    "turn": "the turn of other runs of the group",
}
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def duration(seconds: float) -> str:
    """`71.5 s`, `12 min 5 s`, `3 h 20 min`, `80 d 4 h`."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:.1f} s"
    size, unit, smaller, name = next(units for units in _UNITS if whole >= units[0])
    rest = whole % size // smaller
    return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")


def number(value: float) -> str:
    """With commas, and at most two decimals."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def dollars(value: float) -> str:
    """An amount of an estimate or a limit, which is no bill: `$0.3635`."""
    return f"${value:,.2f}" if value == round(value, 2) else f"${value:,.4g}"


def quantity(name: str, value: float) -> str:
    """An amount of a quantity of an estimate, by its name."""
    if name == "cost_usd":
        return dollars(value)
    return duration(value) if name == "wall_s" else number(value)


def cause_words(cause: str) -> str:
    """Why something waited."""
    return CAUSES.get(cause, cause)


def score_words(score: ScoredOnTest | None) -> str:
    """`66.5 % (61.7 .. 70.9)`."""
    if score is None:
        return NOT_RECORDED
    value = f"{100 * score.value:.1f} %".replace(" ", _UNBROKEN)
    if score.interval is None:
        return value
    ends = "({:.1f} .. {:.1f})".format(*(100 * end for end in score.interval)).replace(" ", _UNBROKEN)
    return f"{value} {ends}"


def budget_words(run: RunRecord) -> str:
    """The limits of a run."""
    limits = [
        dollars(limit) if unit == "usd" else duration(limit) if unit == "wall_s" else f"{number(limit)} {unit}"
        for unit, limit in run.budget.items()
        if limit is not None
    ]
    return ", ".join(limits) or "none"
