"""Guards outside the functions that admission consists of, each with what takes it away and the test that must fail.

`./dev mutants` takes them away in a copy of the tree; a test proves that each is still where this table says.
"""

from __future__ import annotations

from typing import NamedTuple

# Where most of the tests are.
DEADLINES = "tests/integration/test_deadlines.py::"
CONSUMERS = "tests/integration/test_consumers.py::"
EVENTS = "tests/integration/test_events_from_sql.py::"
FORCED = "tests/integration/test_forced_cancel.py::"
FENCES = "tests/integration/test_worker_fences.py::"
GUARDIAN = "tests/integration/test_guardian.py::"
HEALING = "tests/integration/test_healing.py::"
LEASE = "tests/integration/test_worker_lease.py::"
RELAY = "tests/integration/test_relay.py::"
RETRIES = "tests/integration/test_retries.py::"

BATCHES = "tests/integration/test_batches.py::"
BATCH_CANCELS = "tests/integration/test_batch_cancels.py::"
BATCH_RACES = "tests/integration/test_batch_races.py::"
CALLBACKS = "tests/integration/test_batch_callbacks.py::"
REPLANS = "tests/integration/test_replans.py::"
SYSTEM_BATCHES = "tests/system/test_batches.py::"
PLANNING = "tests/integration/test_planning.py::"
PLAN_STREAMS = "tests/integration/test_plan_streams.py::"

MOVES = "migrations/0002_moves.sql"
PARENTS = "migrations/0006_batches.sql"
ADMISSION = "migrations/0003_admission.sql"


class Guard(NamedTuple):
    """What is taken away: `old` becomes `new` in `file`, or in the database function of this name within it.

    `caught_by` is the node id of the one test that must fail then.
    """

    file: str
    old: str
    new: str
    caught_by: str
    within: str = ""


GUARDS = {
    "a message about another attempt is claimed": Guard(
        "worker/sql/claim.sql",
        "e.attempt = t.attempt AND ",
        "",
        FENCES + "test_a_message_about_another_attempt_claims_nothing",
    ),
    "what is not dispatched is claimed": Guard(
        "worker/sql/claim.sql",
        "e.status = 'scheduled' AND is_claimable(e) AND ",
        "",
        FENCES + "test_what_is_not_dispatched_is_claimed_by_nobody",
    ),
    "what is paused is claimed by a message": Guard(
        "worker/sql/claim.sql",
        " AND is_claimable(e)",
        "",
        FENCES + "test_what_is_paused_is_claimed_neither_by_message_nor_from_the_table",
    ),
    "what is paused is claimed by anybody": Guard(
        MOVES,
        " AND e.paused_at IS NULL",
        "",
        FENCES + "test_what_is_paused_is_claimed_neither_by_message_nor_from_the_table",
        within="is_claimable",
    ),
    "a worker without a lease claims by a message": Guard(
        "worker/sql/claim.sql",
        " AND lease_lives($1)",
        "",
        FENCES + "test_a_worker_whose_lease_or_life_has_ended_claims_nothing",
    ),
    "a worker without a lease claims from the table": Guard(
        "worker/sql/claim_from_table.sql",
        " AND lease_lives($1)",
        "",
        FENCES + "test_a_worker_whose_lease_or_life_has_ended_claims_nothing",
    ),
    "a worker that was closed lives": Guard(
        MOVES,
        " AND w.ended_at IS NULL",
        "",
        FENCES + "test_a_worker_whose_lease_or_life_has_ended_claims_nothing",
        within="lease_lives",
    ),
    "a worker whose lease ended lives": Guard(
        MOVES,
        " AND w.lease_expires_at > now()",
        "",
        FENCES + "test_a_worker_whose_lease_or_life_has_ended_claims_nothing",
        within="lease_lives",
    ),
    "the table gives what is another pool's": Guard(
        "worker/sql/claim_from_table.sql",
        "f.pool = $2",
        "$2::text IS NOT NULL",
        FENCES + "test_the_table_gives_the_oldest_of_the_own_pool_that_waited_long_enough",
    ),
    "the table does not wait for the message": Guard(
        "worker/sql/claim_from_table.sql",
        "f.since <= now() - $4 * interval '1 second'",
        "$4::float8 IS NOT NULL",
        FENCES + "test_the_table_gives_the_oldest_of_the_own_pool_that_waited_long_enough",
    ),
    "the table gives the newest": Guard(
        "worker/sql/claim_from_table.sql",
        "ORDER BY f.since LIMIT",
        "ORDER BY f.since DESC LIMIT",
        FENCES + "test_the_table_gives_the_oldest_of_the_own_pool_that_waited_long_enough",
    ),
    "a claim from the table waits for who takes the same": Guard(
        "worker/sql/claim_from_table.sql",
        " SKIP LOCKED",
        "",
        FENCES + "test_a_claim_from_the_table_passes_over_what_somebody_is_taking",
    ),
    "a dispatch is acknowledged before its claim": Guard(
        "worker/claim.py",
        "            if offers:\n"
        "                await self._persistently(offers)\n"
        "            await self._subscription.ack(last)\n",
        "            await self._subscription.ack(last)\n"
        "            if offers:\n"
        "                await self._persistently(offers)\n",
        "tests/system/test_acknowledgements.py::test_a_dispatch_whose_claim_was_not_committed_goes_back_to_its_queue",
    ),
    "a former attempt ends the execution": Guard(
        "worker/sql/finish.sql",
        "AND e.attempt = t.attempt ",
        "",
        FENCES + "test_an_end_of_a_former_attempt_moves_nothing_and_is_kept",
    ),
    "a worker ends what another one holds": Guard(
        "worker/sql/finish.sql",
        " AND e.worker_id = $1\n",
        "\n",
        FENCES + "test_an_end_by_a_worker_that_does_not_hold_the_attempt_moves_nothing_and_is_kept_as_late",
    ),
    "what has ended ends again": Guard(
        "worker/sql/finish.sql",
        "e.status = 'running' AND t.target IN",
        "t.target IN",
        FENCES + "test_a_second_end_of_an_attempt_changes_neither_the_row_nor_what_is_remembered",
    ),
    "a worker cancels by itself": Guard(
        "worker/sql/finish.sql",
        " AND t.target IN ('completed', 'partial', 'failed', 'timed_out', 'skipped', 'requested')",
        "",
        FENCES + "test_a_worker_does_not_cancel_what_nobody_asked_it_to_cancel",
    ),
    "a late end takes the place of what is remembered": Guard(
        "worker/sql/keep_late.sql",
        "DO NOTHING",
        "DO UPDATE SET outcome = excluded.outcome",
        FENCES + "test_an_end_of_a_former_attempt_moves_nothing_and_is_kept",
    ),
    "a late end is forgotten": Guard(
        "worker/store.py",
        "if late := [end for end in ends if end.id not in moved]:",
        "if late := [end for end in ends if end.id is None]:",
        FENCES + "test_an_end_by_a_worker_that_does_not_hold_the_attempt_moves_nothing_and_is_kept_as_late",
    ),
    "a retry follows a cancel": Guard(
        MOVES,
        "e.status = 'running' AND target = 'requested'",
        "target = 'requested'",
        RETRIES + "test_of_a_cancel_and_an_end_the_first_one_counts_and_no_retry_follows_a_cancel",
        within="goes_on",
    ),
    "a retry begins after the deadline": Guard(
        MOVES,
        "e.deadline > now() + delay * interval '1 second'",
        "true",
        DEADLINES + "test_a_retry_that_would_begin_after_the_deadline_is_given_up_at_once",
        within="goes_on",
    ),
    "what is handed back is judged by its deadline": Guard(
        MOVES,
        "outcome NOT IN ('failed', 'timed_out') OR ",
        "",
        DEADLINES + "test_what_is_handed_back_goes_on_until_its_deadline",
        within="goes_on",
    ),
    "what is handed back counts as a failure": Guard(
        "worker/sql/finish.sql",
        "(t.outcome IN ('failed', 'timed_out'))::int",
        "1",
        RETRIES + "test_losses_and_hand_backs_are_counted_apart_from_failures",
    ),
    "an attempt may run a moment longer than its timeout": Guard(
        MOVES,
        "+ 30)",
        "+ 0)",
        DEADLINES + "test_a_claim_leaves_a_backstop_for_what_has_a_run_timeout_and_nothing_for_what_has_none",
        within="run_backstop",
    ),
    "a lease that was closed is renewed": Guard(
        "worker/sql/renew.sql",
        " AND ended_at IS NULL",
        "",
        FENCES + "test_a_lease_that_has_ended_is_never_renewed",
    ),
    "a lease that ended is renewed": Guard(
        "worker/sql/renew.sql",
        " AND lease_expires_at > now()",
        "",
        FENCES + "test_a_lease_that_has_ended_is_never_renewed",
    ),
    "what a worker holds is unknown to it": Guard(
        "worker/sql/renew.sql",
        " WHERE g.id NOT IN (SELECT id FROM mine)",
        "",
        FENCES + "test_a_renewal_tells_what_is_held_without_knowing_what_is_to_stop_and_what_is_gone",
    ),
    "what a worker holds is cancelled unasked": Guard(
        "worker/sql/renew.sql",
        " WHERE status = 'cancelling'",
        "",
        FENCES + "test_a_renewal_tells_what_is_held_without_knowing_what_is_to_stop_and_what_is_gone",
    ),
    "a former attempt is still ours": Guard(
        "worker/sql/renew.sql",
        "(m.id, m.attempt) NOT IN (SELECT id, attempt FROM given)",
        "m.id NOT IN (SELECT id FROM given)",
        FENCES + "test_a_renewal_tells_what_is_held_without_knowing_what_is_to_stop_and_what_is_gone",
    ),
    "a worker that retires does not renew its lease": Guard(
        "worker/service.py",
        "            await end_all(keeping)\n",
        "            await end_all([*keeping, renewing])\n",
        "tests/system/test_drain.py"
        "::test_a_drained_worker_has_time_for_its_last_words_as_its_lease_is_renewed_meanwhile",
    ),
    "a worker that retires closes the others": Guard(
        "worker/sql/retire.sql",
        "id = $1",
        "$1::uuid IS NOT NULL",
        FENCES + "test_retiring_closes_one_incarnation_and_only_once",
    ),
    "an end of an incarnation moves": Guard(
        "worker/sql/retire.sql",
        " AND ended_at IS NULL",
        "",
        FENCES + "test_retiring_closes_one_incarnation_and_only_once",
    ),
    "a worker that drains drains the others": Guard(
        "worker/sql/start_draining.sql",
        "id = $1",
        "$1::uuid IS NOT NULL",
        FENCES + "test_draining_is_said_of_one_incarnation_and_the_renewal_repeats_it",
    ),
    "what is unknown once is handed back": Guard(
        "worker/lease.py",
        "unknown & self._unknown",
        "unknown",
        LEASE + "test_what_is_unknown_the_first_time_may_be_on_its_way",
    ),
    "what is unknown is handed back during a claim": Guard(
        "worker/lease.py",
        "if self._holdings.claiming:",
        "if len(self._holdings) < 0:",
        LEASE + "test_nothing_is_unknown_while_a_claim_is_under_way",
    ),
    "a worker lives on without its lease": Guard(
        "worker/lease.py",
        'if answer["draining"] is None:',
        'if answer["draining"] == "never":',
        LEASE + "test_a_lease_that_has_ended_ends_its_incarnation_and_is_not_told_as_good",
    ),
    "a renewal counts from its answer": Guard(
        "worker/lease.py",
        "                self.beat(sent_at)\n",
        "                self.beat(time.monotonic())\n",
        LEASE + "test_a_renewal_counts_from_when_it_was_sent_and_not_from_its_answer",
    ),
    "the end of a former attempt forgets the next": Guard(
        "worker/holdings.py",
        " and holding.attempt == attempt",
        "",
        "tests/unit/test_holdings.py::test_the_end_of_a_former_attempt_does_not_forget_the_one_that_is_held",
    ),
    "a cancel of some statuses meets what has left them": Guard(
        ADMISSION,
        "p_sources = '{}' OR h.source = ANY(p_sources)",
        "p_sources IS NOT NULL",
        "tests/integration/test_cli_cancel.py"
        "::test_what_a_worker_begins_during_a_cancel_of_what_is_scheduled_is_not_meant_by_it",
        within="decide",
    ),
    "what nobody cancels loses its grace": Guard(
        "interlock/acceptance/sql/force.sql",
        "e.status = 'cancelling' AND ",
        "",
        FORCED + "test_only_what_is_being_cancelled_loses_its_grace",
    ),
    "a forced cancel is told each time": Guard(
        "interlock/acceptance/sql/force.sql",
        "      AND NOT f.forced\n",
        "",
        FORCED + "test_what_was_told_to_stop_before_is_forced_once",
    ),
    "a renewal takes the grace from all that is cancelled": Guard(
        "worker/sql/renew.sql",
        " WHERE forced",
        "",
        FORCED + "test_what_was_told_to_stop_before_is_forced_once",
    ),
    "a forced cancel of some statuses takes the grace of others": Guard(
        "interlock/client/cancels.py",
        "found if Status.CANCELLING in selection.statuses else sorted(moved)",
        "found",
        FORCED + "test_what_began_to_stop_meanwhile_is_not_forced_by_a_selection_that_does_not_mean_it",
    ),
    "a forced cancel of a former attempt stops the next": Guard(
        "worker/holdings.py",
        "if holding is not None and attempt in (None, holding.attempt):",
        "if holding is not None:",
        "tests/unit/test_holdings.py::test_a_forced_end_cuts_the_grace_off_and_cancels_once",
    ),
    "a forced cancel leaves the grace": Guard(
        "worker/holdings.py",
        "            holding.grace.cut_off()\n",
        "",
        "tests/unit/test_holdings.py::test_what_is_forced_at_once_is_told_to_stop_and_has_no_grace_to_begin_with",
    ),
    "a cancel of a former attempt stops the next": Guard(
        "worker/holdings.py",
        " or attempt not in (None, holding.attempt)",
        "",
        "tests/unit/test_holdings.py::test_a_word_to_stop_that_is_about_another_attempt_is_not_for_this_one",
    ),
    "a second word to stop cuts the grace short": Guard(
        "worker/holdings.py",
        " or holding.ending is not None",
        "",
        "tests/unit/test_holdings.py::test_a_second_word_to_stop_does_not_cut_short_what_the_first_one_granted",
    ),
    "a claim under way is not seen": Guard(
        "worker/holdings.py",
        "self._idle.clear()",
        "self._idle.set()",
        "tests/unit/test_holdings.py::test_a_claim_is_under_way_until_its_result_is_entered",
    ),
    "what a drain stopped is judged": Guard(
        "worker/execute.py",
        'holding.ending != "cancelled":',
        'holding.ending == "never":',
        "tests/system/test_running.py::test_what_does_not_finish_within_the_drain_is_handed_back_and_taken_over_at_once",
    ),
    "the guardian believes a beat of the future or the past": Guard(
        "worker/guardian.py",
        "min(sent, _now()) + kill_after",
        "_now() + kill_after",
        GUARDIAN + "test_a_worker_whose_renewals_are_old_is_killed_although_it_beats",
    ),
    "the guardian waits for ever": Guard(
        "worker/guardian.py",
        "if _now() >= deadline:",
        "if _now() < 0:",
        GUARDIAN + "test_a_stopped_worker_is_killed_with_its_tree",
    ),
    "a worker outlives its guardian": Guard(
        "worker/guardian.py",
        "_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "os.getpid()",
        GUARDIAN + "test_the_worker_dies_with_its_guardian",
    ),
    "a daemon of an action finds another parent": Guard(
        "worker/guardian.py",
        "_prctl(_PR_SET_CHILD_SUBREAPER, 1)",
        "os.getpid()",
        GUARDIAN + "test_a_killed_worker_takes_its_daemons_along_and_is_started_anew",
    ),
    "only the worker is killed": Guard(
        "worker/guardian.py",
        "            self._kill_tree(child)\n",
        "            os.close(child.beats)\n",
        GUARDIAN + "test_a_killed_worker_takes_its_daemons_along_and_is_started_anew",
    ),
    "the guardian may come after the lease": Guard(
        "worker/settings.py",
        "if self.guardian + GUARDIAN_MARGIN > self.lease:",
        "if self.guardian > 2 * self.lease:",
        "tests/unit/test_settings.py::test_the_guardian_and_its_kill_must_fit_into_the_lease",
    ),
    "a lost move of another attempt is made": Guard(
        "executor/sql/catch_up.sql",
        " AND e.attempt = t.attempt",
        "",
        HEALING + "test_a_lost_move_of_another_attempt_or_from_elsewhere_is_not_made",
    ),
    "a lost move is made twice": Guard(
        "executor/sql/catch_up.sql",
        " AND e.status = t.source::status",
        "",
        HEALING + "test_a_move_that_a_failover_lost_is_made_again_once_and_under_the_name_of_its_worker",
    ),
    "what came back keeps its holder": Guard(
        "executor/sql/catch_up.sql",
        "WHEN 'requested' THEN NULL ",
        "",
        HEALING + "test_what_came_back_by_a_lost_move_is_nobodys",
    ),
    "what a live lease holds is read as lost": Guard(
        "executor/sql/lost_executions.sql",
        "w.lease_expires_at < now() AND ",
        "",
        HEALING + "test_only_what_an_ended_lease_holds_is_lost",
    ),
    "a live incarnation is closed": Guard(
        "executor/sql/end_workers.sql",
        " AND w.lease_expires_at < now()",
        "",
        HEALING + "test_an_incarnation_is_closed_once_when_its_lease_has_ended_and_it_holds_nothing",
    ),
    "an incarnation is closed with what it holds": Guard(
        "executor/sql/end_workers.sql",
        "NOT EXISTS (SELECT 1 FROM in_flight f WHERE f.worker_id = w.id)",
        "true",
        HEALING + "test_an_incarnation_is_closed_once_when_its_lease_has_ended_and_it_holds_nothing",
    ),
    "an incarnation is closed again and again": Guard(
        "executor/sql/end_workers.sql",
        "w.ended_at IS NULL AND ",
        "",
        HEALING + "test_an_incarnation_is_closed_once_when_its_lease_has_ended_and_it_holds_nothing",
    ),
    "what ended just now has leaked": Guard(
        "executor/sql/leaked_slots.sql",
        " AND e.finished_at < now() - interval '2 seconds'",
        "",
        HEALING + "test_slots_leak_only_from_what_ended_some_seconds_ago",
    ),
    "a timer fires early": Guard(
        "executor/sql/due_timers.sql",
        "t.due <= now() AND ",
        "",
        HEALING + "test_a_timer_fires_when_it_is_due_and_its_execution_is_not_paused",
    ),
    "a timer of what is paused fires": Guard(
        "executor/sql/due_timers.sql",
        " AND e.paused_at IS NULL",
        "",
        HEALING + "test_a_timer_fires_when_it_is_due_and_its_execution_is_not_paused",
    ),
    "the latest timer fires first": Guard(
        "executor/sql/due_timers.sql",
        "ORDER BY t.due LIMIT",
        "ORDER BY t.due DESC LIMIT",
        HEALING + "test_a_timer_fires_when_it_is_due_and_its_execution_is_not_paused",
    ),
    "a timer that was set anew is forgotten": Guard(
        "executor/sql/forget_timers.sql",
        " AND t.due <= now()",
        "",
        HEALING + "test_a_timer_is_forgotten_when_it_did_its_work_and_not_when_it_was_set_anew_or_has_its_work_to_do",
    ),
    "a timer is forgotten with its work undone": Guard(
        "executor/sql/forget_timers.sql",
        "(t.kind <> 'enter' OR e.status <> 'requested' OR e.seq IS NOT NULL)",
        "true",
        HEALING + "test_a_timer_is_forgotten_when_it_did_its_work_and_not_when_it_was_set_anew_or_has_its_work_to_do",
    ),
    "what runs was never started": Guard(
        "executor/sql/stranded_executions.sql",
        "WHERE f.worker_id IS NULL\n",
        "WHERE true\n",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "a busy pool loses what it was given": Guard(
        "executor/sql/stranded_executions.sql",
        " WHERE live_workers(pool) = 0 OR free_places(pool) > 0",
        "",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "a pool without workers keeps what it was given": Guard(
        "executor/sql/stranded_executions.sql",
        "live_workers(pool) = 0 OR ",
        "",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "an idle pool keeps what it was given": Guard(
        "executor/sql/stranded_executions.sql",
        " OR free_places(pool) > 0",
        "",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "a paused pool loses what runs": Guard(
        "executor/sql/stranded_executions.sql",
        " AND q.paused AND f.worker_id IS NULL",
        " AND q.paused",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "a pool that works loses what is dispatched": Guard(
        "executor/sql/stranded_executions.sql",
        " AND q.paused AND",
        " AND",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
    ),
    "a worker whose lease ended is counted as live": Guard(
        MOVES,
        " AND lease_expires_at > now()",
        "",
        HEALING + "test_what_was_dispatched_goes_back_only_where_nobody_will_start_it",
        within="live_workers",
    ),
    "a window counts workers whose leases ended": Guard(
        MOVES,
        " AND lease_expires_at > now()",
        "",
        HEALING + "test_a_pool_whose_leases_have_ended_is_given_nothing",
        within="pool_window",
    ),
    "a completion is told to hold what it gave back": Guard(
        "executor/sql/complete.sql",
        "EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = t.id) AS holds",
        "true AS holds",
        HEALING + "test_a_completion_is_answered_with_where_the_row_stood_before_it",
    ),
    "a completion of what stands elsewhere is believed": Guard(
        "executor/sql/complete.sql",
        " OR (status, attempt, epoch) IS DISTINCT FROM (target, told_attempt, told_epoch)",
        "",
        HEALING + "test_a_completion_is_answered_with_where_the_row_stood_before_it",
    ),
    "a completion of what has not ended is no news": Guard(
        "executor/sql/complete.sql",
        "\n                OR NOT is_terminal(status)",
        "",
        HEALING + "test_a_completion_is_answered_with_where_the_row_stood_before_it",
    ),
    "a claimed key that is paused is looked at": Guard(
        "executor/sql/claimed_keys.sql",
        " AND NOT paused",
        "",
        HEALING + "test_a_claimed_key_is_looked_at_while_it_has_room",
    ),
    "a claimed key that is full is looked at": Guard(
        "executor/sql/claimed_keys.sql",
        " AND (lim IS NULL OR active < lim)",
        "",
        HEALING + "test_a_claimed_key_is_looked_at_while_it_has_room",
    ),
    "a key is looked at without a claim": Guard(
        "executor/sql/claimed_keys.sql",
        "claim_lane IS NOT NULL AND ",
        "",
        HEALING + "test_a_claimed_key_is_looked_at_while_it_has_room",
    ),
    "an outage is not noticed": Guard(
        "executor/sql/tick.sql",
        "ticked_at < now() - $1 * interval '1 second'",
        "$1::float8 IS NULL",
        HEALING + "test_after_a_gap_in_all_looks_there_is_one_lease_of_observing_and_no_more",
    ),
    "an outage is observed for ever": Guard(
        "executor/sql/tick.sql",
        "coalesce(observe_until > now(), false)",
        "observe_until IS NOT NULL",
        HEALING + "test_after_a_gap_in_all_looks_there_is_one_lease_of_observing_and_no_more",
    ),
    "each look begins the observing anew": Guard(
        "executor/sql/tick.sql",
        "ELSE observe_until END",
        "ELSE now() + $2 * interval '1 second' END",
        HEALING + "test_after_a_gap_in_all_looks_there_is_one_lease_of_observing_and_no_more",
    ),
    "a reaper that looks seldom takes its own pause for a gap": Guard(
        "executor/loops/reaper.py",
        "max(GAP_SECONDS, GAP_PERIODS * period_seconds)",
        "GAP_SECONDS",
        HEALING + "test_a_reaper_that_looks_seldom_takes_its_own_pause_for_no_gap",
    ),
    "many leases that end at once are believed": Guard(
        "executor/loops/reaper.py",
        "tick.observing or tick.braking",
        "tick.observing",
        HEALING + "test_when_too_many_leases_end_at_once_nobody_is_lost_before_a_second_look_one_lease_later",
    ),
    "many leases that end at once are never believed": Guard(
        "executor/sql/tick.sql",
        "coalesce(suspected_at > now() - $2 * interval '1 second', false)",
        "suspected_at IS NOT NULL",
        HEALING + "test_when_too_many_leases_end_at_once_nobody_is_lost_before_a_second_look_one_lease_later",
    ),
    "each look puts the second one off": Guard(
        "executor/sql/tick.sql",
        "coalesce(suspected_at, now()) END",
        "now() END",
        HEALING + "test_when_too_many_leases_end_at_once_nobody_is_lost_before_a_second_look_one_lease_later",
    ),
    "all of few workers are too many": Guard(
        "executor/sql/tick.sql",
        "s.workers > $3 AND ",
        "$3::int IS NOT NULL AND ",
        HEALING + "test_more_than_a_third_of_more_than_three_workers_is_too_many_at_once",
    ),
    "a third of the workers is too many": Guard(
        "executor/sql/tick.sql",
        "s.expired * 3 > s.workers",
        "s.expired * 3 >= s.workers",
        HEALING + "test_more_than_a_third_of_more_than_three_workers_is_too_many_at_once",
    ),
    "workers that are closed count": Guard(
        "executor/sql/tick.sql",
        "    FROM worker WHERE ended_at IS NULL",
        "    FROM worker",
        HEALING + "test_more_than_a_third_of_more_than_three_workers_is_too_many_at_once",
    ),
    "too many at once are remembered for ever": Guard(
        "executor/sql/tick.sql",
        "THEN coalesce(suspected_at, now()) END",
        "THEN coalesce(suspected_at, now()) ELSE suspected_at END",
        HEALING + "test_too_many_at_once_are_forgotten_when_a_look_finds_fewer",
    ),
    "a reaper that observes takes work away": Guard(
        "executor/loops/reaper.py",
        "[] if waits else await store.lost_executions(tx)",
        "await store.lost_executions(tx)",
        HEALING + "test_a_reaper_that_observes_declares_nothing_lost_and_closes_nobody",
    ),
    "a reaper that observes closes workers": Guard(
        "executor/loops/reaper.py",
        "if not waits:",
        "if True:",
        HEALING + "test_a_reaper_that_observes_declares_nothing_lost_and_closes_nobody",
    ),
    "a lost attempt is not counted": Guard(
        ADMISSION,
        "(w.source = 'running' AND w.target <> 'cancelling')::int",
        "0",
        HEALING + "test_a_reaper_that_observes_declares_nothing_lost_and_closes_nobody",
        within="decide",
    ),
    "a queue deadline ends what was admitted": Guard(
        "executor/loops/timers.py",
        'queue timeout", of_attempt=True',
        'queue timeout", of_attempt=False',
        HEALING + "test_a_queue_deadline_that_meets_an_admission_leaves_what_was_admitted",
    ),
    "a run deadline stops the next attempt": Guard(
        "executor/loops/timers.py",
        'run timeout", of_attempt=True',
        'run timeout", of_attempt=False',
        HEALING + "test_a_run_deadline_that_meets_the_next_attempt_leaves_it_alone",
    ),
    "a decision about another attempt moves": Guard(
        ADMISSION,
        "(w.attempt IS NULL OR e.attempt = w.attempt)",
        "true",
        "tests/integration/test_admission_decisions.py::test_a_decision_about_another_attempt_moves_nothing",
        within="decide",
    ),
    "what a worker is cancelling is ended over its head": Guard(
        ADMISSION,
        "h.source = 'cancelling' AND h.lost AND",
        "h.source = 'cancelling' AND",
        "tests/integration/test_admission_decisions.py::test_a_lost_cancelling_ends_as_its_cancel_says_and_a_held_one_is_left_to_its_worker",
        within="decide",
    ),
    "a tombstone that has expired stays": Guard(
        "executor/sql/unbury.sql",
        " OR expires_at < now()",
        "",
        HEALING + "test_a_cancel_that_crossed_with_its_request_is_honoured_and_one_without_its_request_waits",
    ),
    "a tombstone stands beside its execution": Guard(
        "interlock/acceptance/sql/bury.sql",
        "WHERE NOT EXISTS (SELECT 1 FROM execution e WHERE e.id = u.id OFFSET 0)\n",
        "",
        HEALING + "test_a_cancel_that_crossed_with_its_request_is_honoured_and_one_without_its_request_waits",
    ),
    "a second cancel is an error": Guard(
        "interlock/acceptance/sql/bury.sql",
        "\nON CONFLICT (execution_id) DO NOTHING",
        "",
        HEALING + "test_a_cancel_that_crossed_with_its_request_is_honoured_and_one_without_its_request_waits",
    ),
    "a withdrawn action is run": Guard(
        "interlock/acceptance/sql/current_actions.sql",
        "withdrawn_at IS NOT NULL AS withdrawn",
        "false AS withdrawn",
        "tests/integration/test_acceptance_refusals.py::test_a_withdrawn_action_is_refused",
    ),
    "a move of another attempt counts": Guard(
        "executor/rules/status.py",
        "if (attempt, epoch) != (told_attempt, told_epoch):",
        "if told_epoch < 0:",
        "tests/unit/test_status_rule.py::test_a_message_about_a_move_is_judged_by_the_row",
    ),
    "a move that is no worker's is made again": Guard(
        "executor/rules/status.py",
        " and is_legal(source, target, Owner.WORKER, Subject.LEAF)",
        "",
        "tests/unit/test_status_rule.py::test_a_message_about_a_move_is_judged_by_the_row",
    ),
    "a completion of a former attempt is forged": Guard(
        "executor/rules/completion.py",
        "if (told.epoch, told.attempt) < (row.epoch, row.attempt):",
        "if told.epoch < 0:",
        "tests/unit/test_completion_rule.py::test_a_completion_is_judged_by_the_row",
    ),
    "a completion is believed": Guard(
        "executor/rules/completion.py",
        "row != told or ",
        "",
        "tests/unit/test_completion_rule.py::test_a_completion_is_judged_by_the_row",
    ),
    "a completion of what has not ended is believed": Guard(
        "executor/rules/completion.py",
        " or row.status not in TERMINAL",
        "",
        "tests/unit/test_completion_rule.py::test_nothing_is_released_for_what_the_row_does_not_say",
    ),
    "what held no slot is a duplicate": Guard(
        "executor/rules/completion.py",
        "limited and not holds",
        "not holds",
        "tests/unit/test_completion_rule.py::test_a_completion_is_judged_by_the_row",
    ),
    "a loss too many is allowed": Guard(
        "executor/rules/loss.py",
        "losses + 1 >= MAX_LOSSES",
        "losses + 1 > MAX_LOSSES",
        "tests/unit/test_status_rule.py::test_a_lost_attempt_is_made_again_until_too_many_were_and_a_cancel_ends_it",
    ),
    "a lost cancel is made again": Guard(
        "executor/rules/loss.py",
        "if status is Status.CANCELLING:",
        "if losses < 0:",
        "tests/unit/test_status_rule.py::test_a_lost_attempt_is_made_again_until_too_many_were_and_a_cancel_ends_it",
    ),
    "a request is acknowledged before it is handled": Guard(
        "executor/consumers.py",
        '            await reached("taken", self._flow)\n',
        '            await self._subscription.ack(flush.last)\n            await reached("taken", self._flow)\n',
        CONSUMERS + "test_a_request_is_acknowledged_when_it_is_handled_and_not_before",
    ),
    "what failed in passing is given up": Guard(
        "executor/consumers.py",
        "                if tries < QUICK_RETRIES:\n                    continue\n",
        "                if tries < QUICK_RETRIES:\n                    return []\n",
        CONSUMERS + "test_a_request_is_acknowledged_when_it_is_handled_and_not_before",
    ),
    "what failed in passing while it was prepared is given up": Guard(
        "executor/consumers.py",
        "                    prepared = await self._persistently(work)\n",
        "                    try:\n"
        "                        prepared = await work()\n"
        "                    except Transient:\n"
        "                        prepared = []\n",
        CONSUMERS + "test_what_cannot_be_prepared_in_passing_is_prepared_again",
    ),
    "flushes are read ahead without a bound": Guard(
        "executor/consumers.py",
        "            await self._ahead.join()\n",
        "",
        CONSUMERS + "test_one_flush_is_prepared_while_another_is_handled_and_both_are_handled_in_turn",
    ),
    "one bad event takes along those that are prepared with it": Guard(
        "executor/consumers.py",
        "            if len(batch) == 1:\n",
        "            if batch:\n",
        CONSUMERS + "test_what_cannot_be_prepared_is_parked_alone_and_the_rest_is_handled",
    ),
    "what nobody takes is deleted": Guard(
        "interlock/adapters/outbox.py",
        "self._confirmed += confirmed",
        "self._confirmed += [each.id for each in batch]",
        RELAY + "test_what_is_confirmed_is_deleted_and_what_nobody_takes_stays_and_backs_off",
    ),
    "what a client commits wakes nobody": Guard(
        "migrations/0002_moves.sql",
        "PERFORM pg_notify('interlock_outbox', '');",
        "",
        RELAY + "test_what_a_client_commits_is_published_at_once_and_waits_for_no_sweep",
    ),
    "what nobody takes is tried again at once": Guard(
        "interlock/adapters/outbox.py",
        "least(64, 2 ^ least(tries, 6))",
        "0",
        RELAY + "test_what_is_confirmed_is_deleted_and_what_nobody_takes_stays_and_backs_off",
    ),
    "nobody notices what no queue takes": Guard(
        "interlock/adapters/amqp.py",
        'mandatory=message.exchange != "control"',
        "mandatory=False",
        RELAY + "test_what_is_confirmed_is_deleted_and_what_nobody_takes_stays_and_backs_off",
    ),
    "what may not have arrived is deleted": Guard(
        "interlock/adapters/amqp.py",
        'self.distrust(f"publishing failed: {result}")',
        "confirmed.append(message.id)",
        RELAY + "test_a_message_that_may_not_have_arrived_stays",
    ),
    "a sweep takes what somebody has taken": Guard(
        "interlock/adapters/outbox.py",
        " AND (claimed_until IS NULL OR claimed_until < now())",
        "",
        RELAY + "test_a_sweep_leaves_alone_what_somebody_has_taken_and_what_is_anothers_to_publish",
    ),
    "a sweep waits for who sweeps the same": Guard(
        "interlock/adapters/outbox.py",
        " SKIP LOCKED",
        "",
        RELAY + "test_a_sweep_leaves_alone_what_somebody_has_taken_and_what_is_anothers_to_publish",
    ),
    "a sweep publishes what is another role's": Guard(
        "interlock/adapters/outbox.py",
        "WHERE role = $1 AND",
        "WHERE $1::text IS NOT NULL AND",
        RELAY + "test_a_sweep_leaves_alone_what_somebody_has_taken_and_what_is_anothers_to_publish",
    ),
    "an executor may publish a completion": Guard(
        "interlock/contract/topology.py",
        'frozenset({"worker"})',
        'frozenset({"worker", "executor"})',
        "tests/unit/test_topology.py::test_completions_have_one_publisher_and_it_is_the_worker",
    ),
    "the executor completes": Guard(
        MOVES,
        "as_message('worker', 'completions'",
        "as_message(p_role, 'completions'",
        EVENTS + "test_an_end_that_the_executor_decides_is_completed_by_a_worker_who_is_told_to_publish",
        within="record_moves",
    ),
    "what has not ended is completed": Guard(
        MOVES,
        "WITH ORDINALITY WHERE is_terminal(target)) e",
        "WITH ORDINALITY) e",
        EVENTS + "test_of_a_mixed_flush_dispatch_is_even_and_only_what_ended_is_completed",
        within="record_moves",
    ),
    "what another role publishes waits for its fast path": Guard(
        MOVES,
        "CASE WHEN role = p_role THEN now() + interval '1 second' END",
        "now() + interval '1 second'",
        EVENTS + "test_an_end_that_the_executor_decides_is_completed_by_a_worker_who_is_told_to_publish",
        within="record_moves",
    ),
    "a role is given what another one publishes": Guard(
        MOVES,
        "FROM put WHERE put.role = p_role",
        "FROM put",
        EVENTS + "test_an_end_that_the_executor_decides_is_completed_by_a_worker_who_is_told_to_publish",
        within="record_moves",
    ),
    "nobody tells the workers to publish": Guard(
        MOVES,
        "IF kinds.ended AND p_role = 'executor' THEN",
        "IF false THEN",
        EVENTS + "test_an_end_that_the_executor_decides_is_completed_by_a_worker_who_is_told_to_publish",
        within="record_moves",
    ),
    "what is claimed is in flight no more": Guard(
        MOVES,
        "\n      AND (m.target = 'requested' OR is_terminal(m.target))",
        "",
        EVENTS + "test_each_move_of_a_worker_is_told_once_and_its_end_also_as_a_completion",
        within="record_moves",
    ),
    "a cancel is told to no worker": Guard(
        MOVES,
        "WHERE target = 'cancelling' AND worker_id IS NOT NULL",
        "WHERE worker_id IS NULL AND false",
        EVENTS + "test_a_cancel_is_sent_to_the_worker_that_holds_the_execution",
        within="record_moves",
    ),
    "a batch is judged while a partition is missing": Guard(
        "executor/rules/partition.py",
        "counts.processed != counts.total",
        "False",
        "tests/unit/test_partition_rule.py::test_there_is_no_outcome_while_one_partition_is_missing",
    ),
    "a partition is called as only our own children are": Guard(
        "interlock/actions/partitions.py",
        'text.startswith("$")',
        "False",
        "tests/unit/test_partitions.py::test_an_item_without_a_key_is_refused_with_its_number",
    ),
    "one partition changes what another sees": Guard(
        "interlock/actions/templates.py",
        "return tuple(_fixed(item) for item in value)",
        "return value",
        "tests/unit/test_partitions.py::test_no_partition_can_change_what_another_sees",
    ),
    "an action and a batch have one name": Guard(
        "interlock/client/batch_registry.py",
        "in sorted({*actions} & {*batches})",
        "in ()",
        "tests/integration/test_batch_registry.py::test_an_action_and_a_batch_never_share_a_name",
    ),
    "a batch starts an action that nobody registered": Guard(
        "interlock/client/batch_registry.py",
        "if name not in actions",
        "if False",
        "tests/integration/test_batch_registry.py::test_a_batch_that_starts_an_unknown_action_is_refused_with_the_nearest",
    ),
    "what came back has no reason to move": Guard(
        MOVES,
        "WHERE source IS NOT NULL AND target = 'requested'",
        "WHERE false",
        RETRIES + "test_a_retry_gives_its_slot_away_and_enters_again_at_the_end",
        within="record_moves",
    ),
    "a deadline outlives its attempt": Guard(
        MOVES,
        "(m.source = 'running' AND t.kind = 'run')",
        "false",
        DEADLINES + "test_the_backstop_goes_with_its_attempt_and_the_next_one_gets_its_own",
        within="record_moves",
    ),
    "the database allows any move": Guard(
        "migrations/0001_schema.sql",
        "'requested', 'running', 'timed_out'))",
        "'requested', 'running', 'completed', 'timed_out'))",
        "tests/integration/test_schema_guard.py::test_every_pair_of_statuses_is_allowed_exactly_when_the_table_allows_it",
    ),
    "a batch ends with a partition missing": Guard(
        "executor/sql/end_batches.sql",
        "AND processed(b) = b.total ",
        "",
        BATCHES + "test_with_one_of_its_partitions_missing_a_batch_has_not_ended",
    ),
    "an end is judged before the counts are in": Guard(
        "executor/rules/batch.py",
        "all_in = standing.counts.processed == standing.counts.total and plan_over",
        "all_in = plan_over",
        BATCH_CANCELS + "test_a_cancel_ends_what_waits_tells_what_runs_to_stop_and_ends_the_batch_behind_them",
    ),
    "a batch ends twice": Guard(
        "executor/sql/end_batches.sql",
        "e.kind = 'batch' AND e.status IN ('running', 'cancelling')\n      AND b.ended_at IS NULL",
        "e.kind = 'batch' AND e.status <> 'requested'",
        BATCHES + "test_of_32_executors_that_end_a_batch_one_does",
    ),
    "the end that was judged of a former epoch ends the next": Guard(
        "executor/sql/end_batches.sql",
        "AND e.epoch = t.epoch AND b.epoch = t.epoch ",
        "",
        BATCH_RACES + "test_a_late_success_of_the_former_epoch_touches_no_count_of_the_next",
    ),
    "a batch that has not ended is restarted": Guard(
        PARENTS,
        "SELECT e.epoch = p_epoch AND is_terminal(e.status) INTO ended",
        "SELECT e.epoch = p_epoch INTO ended",
        BATCH_RACES + "test_a_restart_that_meets_the_last_result_of_its_epoch_changes_nothing",
    ),
    "an open batch ends": Guard(
        "executor/rules/batch.py",
        "if standing.sealed and all_in:",
        "if all_in:",
        "tests/unit/test_batch_rule.py::test_a_batch_of_which_something_can_come_rests",
    ),
    "a batch ends over the head of its planning": Guard(
        "executor/rules/batch.py",
        "plan_over = standing.plan is None or standing.plan in TERMINAL",
        "plan_over = True",
        BATCH_CANCELS + "test_a_planning_that_runs_is_waited_for",
    ),
    "a batch that no longer runs hands out partitions": Guard(
        MOVES,
        "p.epoch = p_epoch AND p.status = 'running')",
        "p.epoch = p_epoch)",
        BATCHES + "test_a_partition_of_a_batch_that_no_longer_runs_is_handed_to_nobody",
    ),
    "the planning is counted as a partition": Guard(
        PARENTS,
        "WHERE m.parent_id IS NOT NULL AND is_terminal(m.target) AND e.child_key <> '$plan'\n              GROUP BY",
        "WHERE m.parent_id IS NOT NULL AND is_terminal(m.target)\n              GROUP BY",
        PLANNING + "test_a_plan_is_made_whole_and_sealed_with_its_last_chunk",
    ),
    "an attempt without the fence plans": Guard(
        PARENTS,
        "AND e.attempt = p_attempt AND e.worker_id = p_worker AND lease_lives(p_worker)\n      AND e.epoch",
        "AND p_attempt IS NOT NULL AND p_worker IS NOT NULL\n      AND e.epoch",
        PLANNING + "test_an_attempt_without_the_fence_plans_nothing",
    ),
    "a partition that is planned twice is let pass": Guard(
        PARENTS,
        "IF NOT FOUND OR cardinality(added) < cardinality(p_id) THEN",
        "IF NOT FOUND THEN",
        PLANNING + "test_a_key_that_is_there_twice_fails_the_plan_and_names_it",
    ),
    "another attempt need not find the same plan": Guard(
        "worker/planning.py",
        "hasher.hexdigest() != place.digest",
        "not place.digest",
        PLANNING + "test_a_plan_of_another_attempt_must_find_the_same",
    ),
    "an item that JSON cannot say is planned as another": Guard(
        "worker/plans.py",
        'encode_result(item, "item")',
        "orjson.dumps(item, default=str).decode()",
        PLAN_STREAMS + "test_a_broken_item_is_named_by_its_number_and_leaves_nothing_planned",
    ),
    "a plan of a former epoch is applied": Guard(
        PARENTS,
        "WHERE v.plan_id = p_preview AND v.batch_id = p_batch AND v.epoch = p_epoch AND v.applied_in IS NULL;",
        "WHERE v.plan_id = p_preview AND v.batch_id = p_batch;",
        REPLANS + "test_the_database_itself_refuses_a_plan_of_a_former_epoch",
    ),
    "a plan that is only looked at is written without the fence": Guard(
        PARENTS,
        "AND e.worker_id = p_worker AND lease_lives(p_worker)\n    FOR SHARE;",
        "OR e.id = p_plan\n    FOR SHARE;",
        REPLANS + "test_a_look_is_planned_on_by_another_attempt_and_by_none_without_the_fence",
    ),
    "what is gone from a plan still counts": Guard(
        PARENTS,
        "FROM fates f WHERE e.id BETWEEN f.id AND f.id AND (f.fate = 'gone' OR f.again);",
        "FROM fates f WHERE e.id BETWEEN f.id AND f.id AND f.again;",
        REPLANS + "test_what_is_new_is_made_what_is_gone_does_not_count_and_what_stayed_is_kept",
    ),
    "a lookup whose connection is cut costs an attempt of the planning": Guard(
        "worker/planning.py",
        "return await read(tx)\n            except Transient as error:",
        "return await read(tx)\n            except ZeroDivisionError as error:",
        PLANNING + "test_a_connection_that_is_cut_while_the_action_is_looked_up_costs_no_attempt",
    ),
    "a planner runs as long as it likes": Guard(
        "worker/execute.py",
        "return await _timed(entry.action.timeout.run, self._runners.run(entry, params, holding, sink))",
        "return await self._runners.run(entry, params, holding, sink)",
        SYSTEM_BATCHES + "test_a_planner_is_cut_off_and_tried_again_as_its_own_action_says",
    ),
    "a pass over batches that was cut short begins with the first again": Guard(
        "executor/loops/reconciler.py",
        "self._after = identity",
        "after = identity",
        CALLBACKS + "test_a_pass_that_is_cut_short_goes_on_behind_the_batch_that_it_stopped_at",
    ),
    "a batch that was cancelled before it came tells nobody": Guard(
        "migrations/0004_acceptance.sql",
        "AND u.id = ANY(accepted) AND notifies(u.batch::jsonb, v.event);",
        "AND false;",
        CALLBACKS + "test_a_batch_that_was_cancelled_before_it_came_tells_of_its_end_and_of_no_start",
    ),
    "a batch is added to behind its seal": Guard(
        PARENTS,
        "WHERE b.execution_id = p_batch AND b.sealed_at IS NULL AND e.status = 'running' AND e.epoch = b.epoch;",
        "WHERE b.execution_id = p_batch;",
        BATCHES + "test_a_partition_that_is_added_before_the_seal_is_counted_and_one_behind_it_refused",
    ),
    "an unchanged status leaves the parent where it is": Guard(
        "executor/handlers/status_changed.py",
        "            if (parent := _parent(event)) is not None:",
        "            if (parent := _parent(event)) is not None and verdict is Verdict.BEHIND:",
        BATCHES + "test_a_status_that_is_there_already_is_not_written_and_drives_the_parent_on",
    ),
    "a stale status leaves the parent where it is": Guard(
        "executor/handlers/status_changed.py",
        "            if (parent := _parent(event)) is not None:",
        "            if (parent := _parent(event)) is not None and verdict is not Verdict.STALE:",
        BATCHES + "test_a_status_that_is_there_already_is_not_written_and_drives_the_parent_on",
    ),
    "a person chooses by words that a batch has failed": Guard(
        ADMISSION,
        " OR starts_with(p_reason, 'failed: ')",
        "",
        BATCH_CANCELS + "test_a_person_who_cancels_does_not_choose_the_end_by_words",
    ),
    "a batch that drains stops what runs": Guard(
        "executor/sql/open_children.sql",
        "(NOT $3 OR ",
        "(true OR ",
        BATCH_CANCELS + "test_with_drain_what_runs_finishes_and_what_waits_does_not_begin",
    ),
    "a cancelled batch plans all the same": Guard(
        "migrations/0004_acceptance.sql",
        "WHERE p.status <> 'requested' OR p.id = ANY(blocked));",
        "WHERE false);",
        BATCH_CANCELS + "test_a_cancel_before_its_batch_plans_nothing",
    ),
    "a repeat plans a batch that never started": Guard(
        "migrations/0004_acceptance.sql",
        " AND c.parent = ANY(p_id) AND c.parent <> ALL(accepted) RETURNING e.id",
        " AND false RETURNING e.id",
        BATCH_CANCELS + "test_a_batch_that_was_cancelled_before_it_came_is_not_planned_by_a_repeat",
    ),
    "an event of a batch is called back twice": Guard(
        "interlock/acceptance/partitions.py",
        'identity = child_id(batch, epoch, f"$notify/{event}")',
        'identity = __import__("uuid_utils.compat", fromlist=["uuid7"]).uuid7()',
        CALLBACKS + "test_an_executor_that_dies_before_it_notes_a_call_makes_no_second_one",
    ),
    "somebody who judged wrongly ends an open batch": Guard(
        "executor/sql/end_batches.sql",
        " AND (b.sealed_at IS NOT NULL OR e.status = 'cancelling')",
        "",
        BATCHES + "test_an_open_batch_ends_only_when_it_is_sealed",
    ),
    "each look at the queues opens a channel": Guard(
        "interlock/adapters/amqp.py",
        "queue = await self._inspecting.declare_queue(",
        "queue = await (await self._links[1].channel()).declare_queue(",
        "tests/integration/test_session.py::test_looking_after_itself_leaves_nothing_in_memory",
    ),
    "a line that is cut in the handshake is a bug": Guard(
        "interlock/adapters/subscription.py",
        "except StopAsyncIteration as error:",
        "except StopIteration as error:",
        "tests/unit/test_broker_errors.py::test_a_line_that_is_cut_before_the_brokers_first_word_was_lost",
    ),
    "what a command left is not looked for": Guard(
        "worker/runners/process.py",
        "if self.is_over() and not lineage.has_orphans():",
        "if self.is_over():",
        "tests/integration/test_guardian.py::"
        "test_whoever_is_adopted_by_the_guardian_shows_that_a_command_left_something",
    ),
}
