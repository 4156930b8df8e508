"""Further tests of cubes on a local disk, over a bucket (``make test-all``); see ``test_cubes``."""

from __future__ import annotations

import pytest

from tests.catalog.cubes.test_compact import (  # noqa: F401
    cube,
    test_an_empty_cube_has_nothing_to_be_ordered,
    test_chunks_that_are_in_order_are_not_written_again,
    test_refreshes_go_on_after_a_compaction,
    test_superseded_samples_stay_and_stay_marked,
    test_what_is_in_order_is_left_alone,
)
from tests.catalog.cubes.test_round_trip import (  # noqa: F401
    test_a_chunk_is_read_once_however_many_of_its_rows_are_asked_for,
    test_asking_for_what_is_not_there_says_what_is,
    test_planck_constants_that_come_later_leave_earlier_samples_without,
    test_samples_lie_by_block_place_and_date_in_every_product,
    test_xarray_opens_it_without_our_code,
)
from tests.catalog.cubes.test_writing import (  # noqa: F401
    test_a_location_keeps_its_split,
    test_a_product_that_changed_is_refused_and_a_new_title_is_not,
    test_a_product_without_samples_yet_has_empty_columns,
    test_an_old_snapshot_stays_as_it_was,
    test_nothing_appended_makes_no_commit,
)

pytestmark = [pytest.mark.usefixtures("swath_home"), pytest.mark.long]
