"""One spelling for everything that is hashed."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk.canonical import array_digest, canonical_json, digest


def test_order_of_keys_does_not_matter() -> None:
    """Equal values have equal bytes."""
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    """NaN and infinity never reach a digest."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest([value])


def test_array_digest_knows_shape_and_not_layout() -> None:
    """The digest is of values and shape; memory order and byte order do not matter."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_digest(np.asfortranarray(array)) == array_digest(array)
    assert array_digest(array.astype(">f4")) == array_digest(array)
    assert array_digest(array.reshape(3, 2)) != array_digest(array)
