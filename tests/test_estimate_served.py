"""An estimate of a real run: the bundled model, whose server hears of nothing but its tokenizer."""

from __future__ import annotations

from dataclasses import replace

from lmaas_sdk import PRESETS, Backend, Budget, ModelCard, Range, Tuner, estimate, load_backend
from lmaas_sdk.cli.demo import demo_splits

SMALL = replace(PRESETS["small-model"], population=8, dev_every=3)


class TokenizerAlone:
    """A backend that hands out its tokenizer and has no other door."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def card(self) -> ModelCard:
        return self._inner.card

    async def tokenizer_json(self) -> bytes:
        return await self._inner.tokenizer_json()  # type: ignore[attr-defined, no-any-return]


async def test_tokens_are_those_that_will_be_billed() -> None:
    """Train tokens exactly, dev tokens within the bounds, money with them; the time follows a short probe."""
    splits = demo_splits()
    async with load_backend("roberta-tiny", threads=1, price_usd_per_1k_tokens="0.0004") as served:
        alone: Backend = TokenizerAlone(served)  # type: ignore[assignment]
        found = await estimate(alone, splits.train, splits.dev, preset=SMALL, evaluations=40)
        assert found.is_counted
        result = await Tuner(served, budget=Budget(evaluations=40), preset=SMALL).fit(
            splits.train, splits.dev, estimate=found
        )
        billed = result.spend.by_purpose
        assert found.by_purpose["train"].tokens == Range.exactly(billed["train"].tokens)
        assert billed["dev"].tokens in found.by_purpose["dev"].tokens
        compared = result.to_dict()["estimate"]
        assert isinstance(compared, dict)
        assert all(compared[name]["is_within"] for name in ("calls", "evaluations", "attempts", "tokens", "cost_usd"))
        timed = await Tuner(served, budget=Budget(evaluations=40), preset=SMALL).estimate(
            splits.train, splits.dev, probe=2
        )
        assert timed.wall_s is not None
        assert timed.probed is not None
        assert (timed.probed.calls, timed.probed.tokens > 0) == (2, True)
