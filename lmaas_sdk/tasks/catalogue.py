"""The tasks that come with the package.

Seven are those of Sun et al. 2022, with their templates and label words; results are reported on them. MR and TREC are
for choosing defaults, so that nothing is chosen on the seven.

Label words carry a leading space, also where the mask begins the text (AG's News, TREC): without one, byte-level BPE
splits five of DBPedia's words, and a fragment is a poor label word.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from lmaas_sdk.errors import UnknownTask
from lmaas_sdk.tasks.dataset import Task
from lmaas_sdk.tasks.source import Source, squash

__all__ = ["PAPER_TASKS", "TASKS", "get_task"]

_SENTIMENT = "{S} . It was <mask> ."
_PAIR = "{S1} ? <mask> , {S2}"
_POLARITY = ("negative", "positive")

_ALL = (
    Task(
        "sst2",
        template=_SENTIMENT,
        labels=_POLARITY,
        words=("bad", "great"),
        source=Source(("SST-2",), ("text",), "dev"),
    ),
    Task(
        "yelp",
        template=_SENTIMENT,
        labels=_POLARITY,
        words=("bad", "great"),
        source=Source(("Yelp", "Yelp P.", "Yelp Polarity"), ("text",)),
    ),
    Task(
        "agnews",
        template="<mask> News: {S}",
        labels=("World", "Sports", "Business", "Sci/Tech"),
        words=("World", "Sports", "Business", "Tech"),
        source=Source(("AGNews", "AG's News"), ("text",)),
    ),
    Task(
        "dbpedia",
        template="[ Category: <mask> ] {S}",
        labels=(
            "Company",
            "EducationalInstitution",
            "Artist",
            "Athlete",
            "OfficeHolder",
            "MeanOfTransportation",
            "Building",
            "NaturalPlace",
            "Village",
            "Animal",
            "Plant",
            "Album",
            "Film",
            "WrittenWork",
        ),
        words=(
            "Company",
            "Education",
            "Artist",
            "Athlete",
            "Office",
            "Transportation",
            "Building",
            "Natural",
            "Village",
            "Animal",
            "Plant",
            "Album",
            "Film",
            "Written",
        ),
        pieces="first",  # RoBERTa-large splits Athlete; its first piece is like no other word's
        source=Source(("DBPedia14", "DBPedia"), ("text",)),
    ),
    Task(
        "mrpc",
        template=_PAIR,
        labels=("not_equivalent", "equivalent"),
        words=("No", "Yes"),
        metric="f1",
        source=Source(("MRPC",), ("sentence1", "sentence2"), "dev"),
    ),
    Task(
        "rte",
        template=_PAIR,
        labels=("entailment", "not_entailment"),
        words=("Yes", "No"),
        source=Source(("RTE",), ("premise", "hypothesis"), "dev"),
    ),
    Task(
        "snli",
        template=_PAIR,
        labels=("entailment", "neutral", "contradiction"),
        words=("Yes", "Maybe", "No"),
        source=Source(("SNLI",), ("premise", "hypothesis"), dropped_labels=("-1", "-")),
    ),
    Task(
        "mr",
        template=_SENTIMENT,
        labels=_POLARITY,
        words=("bad", "great"),
        source=Source(("MR",), ("text",)),
    ),
    Task(
        "trec",
        template="<mask> : {S}",
        labels=("description", "entity", "abbreviation", "human", "location", "numeric"),
        words=("description", "thing", "letters", "person", "place", "number"),
        source=Source(("TREC",), ("text",)),
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
"""All tasks by name, read-only."""

PAPER_TASKS = ("sst2", "yelp", "agnews", "dbpedia", "mrpc", "snli", "rte")
"""The seven that results are reported on, in the order of the paper's table."""


def get_task(name: str) -> Task:
    """A task by any of its names; case and punctuation do not matter: `sst2`, `SST-2`, `ag_news`, `AG's News`.

    Raises:
        UnknownTask: There is none of that name; the message lists what there is and the nearest name.
    """
    wanted = squash(str(name))
    if wanted in _BY_NAME:
        return _BY_NAME[wanted]
    near = difflib.get_close_matches(wanted, _BY_NAME, n=1)
    hint = f"; did you mean {_BY_NAME[near[0]].name!r}?" if near else "; describe one's own with Task(...)"
    raise UnknownTask(f"no task {name!r:.80} in the catalogue: it has {', '.join(TASKS)}{hint}")


_BY_NAME = {squash(alias): task for task in _ALL for alias in (task.name, *task.source.names)}
