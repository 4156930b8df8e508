"""Tests of cubes on a local disk, over a bucket: the same functions, where only the store differs."""

from __future__ import annotations

import pytest

from tests.catalog.cubes.test_round_trip import (  # noqa: F401
    test_columns_calibration_and_affines_are_those_of_the_sample,
    test_scenes_and_locations_travel_with_the_cube,
)
from tests.catalog.cubes.test_writing import (  # noqa: F401
    test_a_cube_opened_before_sees_what_another_wrote,
    test_a_superseded_scene_is_marked_in_the_new_snapshot_only,
    test_a_tag_never_moves,
    test_an_error_while_samples_come_leaves_the_cube_as_it_was,
    test_samples_that_are_held_are_not_written_again,
    test_stdout_stays_empty,
)

pytestmark = pytest.mark.usefixtures("swath_home")
