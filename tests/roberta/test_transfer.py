"""Starting from other tasks: the tests of the mock backend, on the bundled model and small random ones."""

from __future__ import annotations

import pytest
from roberta.conftest import SMALL_SHAPES
from test_learned_projection import (
    test_prompts_without_their_runs_tell_no_cost,
    test_runs_give_what_was_looked_at_on_dev,
)
from test_sequential import (
    test_each_round_searches_anew_around_the_best_so_far,
    test_the_best_of_all_rounds_is_used,
    test_the_same_program_goes_on_after_a_kill,
    test_without_dev_the_lowest_train_loss_decides,
)
from test_start import (
    test_a_chain_of_bases_needs_the_last_alone,
    test_a_result_a_prompt_a_file_and_its_vectors_are_one_base,
    test_a_run_that_ended_midway_goes_on_with_the_same_base,
    test_learned_axes_tell_what_they_have_cost,
    test_the_evaluation_on_test_is_under_the_learned_base,
    test_the_file_of_a_prompt_carries_what_it_needs,
    test_the_origin_of_the_new_search_is_the_source_prompt,
    test_the_run_searches_the_axes_it_is_given,
    test_what_the_source_has_cost_is_an_item_of_its_own,
)

pytestmark = pytest.mark.parametrize("shape", SMALL_SHAPES, indirect=True)

# collected here, they are given this folder's `backend` and `name`
__all__ = [
    "test_a_chain_of_bases_needs_the_last_alone",
    "test_a_result_a_prompt_a_file_and_its_vectors_are_one_base",
    "test_a_run_that_ended_midway_goes_on_with_the_same_base",
    "test_each_round_searches_anew_around_the_best_so_far",
    "test_learned_axes_tell_what_they_have_cost",
    "test_prompts_without_their_runs_tell_no_cost",
    "test_runs_give_what_was_looked_at_on_dev",
    "test_the_best_of_all_rounds_is_used",
    "test_the_evaluation_on_test_is_under_the_learned_base",
    "test_the_file_of_a_prompt_carries_what_it_needs",
    "test_the_origin_of_the_new_search_is_the_source_prompt",
    "test_the_run_searches_the_axes_it_is_given",
    "test_the_same_program_goes_on_after_a_kill",
    "test_what_the_source_has_cost_is_an_item_of_its_own",
    "test_without_dev_the_lowest_train_loss_decides",
]
