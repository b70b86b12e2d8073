"""Which model something was made for, and whether another one will do."""

from __future__ import annotations

from dataclasses import dataclass

from lmaas_sdk.backend import ModelCard

__all__ = ["MadeFor"]


@dataclass(frozen=True, slots=True)
class MadeFor:
    """A model, as far as what was made for it has to know.

    Args:
        model: Its name.
        hidden_size: Its width.
        tokenizer_digest: That of its tokenizer; "" where it is not known.
    """

    model: str
    hidden_size: int
    tokenizer_digest: str

    @classmethod
    def of(cls, card: ModelCard) -> MadeFor:
        """The model behind a backend."""
        return cls(card.name, card.hidden_size, card.tokenizer_digest)

    def misfit(self, card: ModelCard, what: str) -> str | None:
        """Why a model will not do, though its name alone may differ; None: it will.

        Args:
            card: The model's.
            what: What was made, and how, for the message: "prompt was tuned".
        """
        if card.hidden_size != self.hidden_size:
            return (
                f"this {what} for {self.model} (width {self.hidden_size}); "
                f"{card.name} has width {card.hidden_size}: use it with the model it was made for"
            )
        if self.tokenizer_digest and card.tokenizer_digest and self.tokenizer_digest != card.tokenizer_digest:
            return (
                f"this {what} for {self.model}; {card.name} has another tokenizer "
                f"({card.tokenizer_digest[:12]}, not {self.tokenizer_digest[:12]})"
            )
        return None
