"""Choosing a template by the labelled examples: each is one evaluation, and nothing is tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.errors import BudgetExceeded, QuotaExceeded
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.method import task_of
from lmaas_sdk.methods.prompt_choice import (
    Ended,
    PromptChoice,
    TriedPrompt,
    asked_as,
    asked_otherwise,
    ended_by,
    labelled_sets,
    ranked,
    read_templates,
    scored,
)
from lmaas_sdk.outside import outside
from lmaas_sdk.tasks import Dataset, Task, Template
from lmaas_sdk.tasks.alternatives import candidate_templates
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import evaluation
from lmaas_sdk.tuning.scheduler import Scheduler

__all__ = ["choose_template"]


async def choose_template(  # noqa: PLR0913  (all but three by name)
    backend: Backend,
    train: Dataset,
    dev: Dataset | None = None,
    *,
    templates: Sequence[str | Template] | None = None,
    budget: Budget | None = None,
    retry: RetryPolicy | None = None,
    quotas: str | Limits | Mapping[str, Limits] | None = None,
    cache: ReplyCache | bool = True,
) -> PromptChoice:
    """The template under which the manual prompt answers the labelled examples best, by cross entropy.

    The task's own template is tried first. Each takes one evaluation, and as many texts of `dev` again. When the
    budget ends, the best of those that it paid for is returned.

    Args:
        backend: The model.
        train, dev: What to judge by, all examples alike; nothing is learned from either.
        templates: To choose from, beside the task's own; None: those of `candidate_templates`.
        budget: What calls are paid from; None: no limit.
        retry, quotas, cache: As of `Client`.

    Raises:
        TaskError: A template asks of other fields, or the data are unusable; nothing was sent.
        BudgetTooSmall: The budget cannot pay for one template; nothing was sent.
        QuotaExceeded: The quota admits not even the first.
        BackendError: The backend failed for good.
    """
    connection, task = Connection(backend, budget, retry, quotas, cache), task_of(train, dev)
    sets = labelled_sets(train, dev)
    tasks = [asked_otherwise(task, template=template) for template in _templates(task, templates)]
    asked = [{purpose: asked_as(one, dataset) for purpose, dataset in sets.items()} for one in tasks]
    client = connection.client()
    scheduler = Scheduler(client, outside().new_id())
    tried: list[TriedPrompt] = []
    stopped: Ended = "done"
    async with spending(client):
        for number, data in enumerate(asked):
            try:
                tried.append(await _tried(scheduler, data, label=number))
            except (BudgetExceeded, QuotaExceeded) as end:
                if not tried:
                    raise
                stopped = ended_by(end)
                break
    return PromptChoice(ranked(tried), client.spend, stopped)


def _templates(task: Task, given: Sequence[str | Template] | None) -> list[Template]:
    """The task's own, and those to choose from, each once."""
    if given is None:
        return list(candidate_templates(task))
    return list(dict.fromkeys([task.template, *read_templates(given)]))


async def _tried(scheduler: Scheduler, data: Mapping[Purpose, Dataset], *, label: object) -> TriedPrompt:
    found = await scored(scheduler, {purpose: dataset.text_set for purpose, dataset in data.items()}, label=label)
    judged = {
        purpose: evaluation(found[purpose].logits, dataset, shortened=found[purpose].shortened)
        for purpose, dataset in data.items()
    }
    return TriedPrompt(data["train"].task, judged["train"], judged.get("dev"))
