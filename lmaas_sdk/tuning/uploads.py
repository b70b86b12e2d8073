"""Arrays on their way to a backend, and soft prompts on their way back: free, and asked for again if need be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import ArrayStore, PromptWriter
from lmaas_sdk.client import Client
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.tuning.deep_subspace import DeepSubspace, Space
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["at_layer_0", "upload", "written_out"]


def at_layer_0(space: Space) -> Subspace:
    """The subspace of a prompt that enters layer 0 alone.

    Raises:
        ValueError: It enters others.
    """
    if isinstance(space, DeepSubspace) or space.layers != (0,):
        raise ValueError(
            "the prompt enters several layers or a later one, and what is learned here is of layer 0 alone"
        )
    return space


async def upload(client: Client, arrays: Sequence[NDArray[np.float32]]) -> None:
    """Has the backend hold these arrays.

    Raises:
        Unsupported: It stores none.
        BackendError: As `ArrayStore.upload`.
    """
    backend = client.backend
    for array in arrays:
        if not isinstance(backend, ArrayStore):
            raise Unsupported(f"{backend.card.name} stores no arrays, and this prompt needs {len(arrays)}")
        await client.free("arrays", backend.upload, array)


async def written_out(client: Client, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
    """What enters the model at the prompt's positions, for each candidate: (n_candidates, L, D) float32.

    Args:
        client: Asks.
        subspace: Where the candidates lie; the arrays that it names are uploaded.
        Z: (n_candidates, d) float32.

    Raises:
        Unsupported: The backend writes none out.
        BackendError: As `PromptWriter.soft_prompts`.
    """
    backend = client.backend
    if not isinstance(backend, PromptWriter):
        raise Unsupported(
            f"{backend.card.name} writes no soft prompts out, and only its server knows what is behind one: give the "
            "vectors as an array, if you have them"
        )
    most = backend.card.max_candidates
    parts = [Z[first : first + most] for first in range(0, len(Z), most)]
    return np.concatenate([await client.free("prompts", backend.soft_prompts, subspace, part) for part in parts])
