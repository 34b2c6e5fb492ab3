"""Mutants of admission: one replacement in the source of one database function, and the test that must notice it."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """What is broken: `old` becomes `new` in `function`; `caught_by` is module:test below tests.integration.

    `arguments` are those that the test takes behind the world.
    """

    function: str
    old: str
    new: str
    caught_by: str
    arguments: tuple[object, ...] = ()


MUTANTS = {
    "keys are read without their locks": Mutant(
        "admit",
        "ORDER BY id FOR NO KEY UPDATE);",
        "ORDER BY id);",
        "test_admission_races:test_two_executors_that_admit_on_one_key_hand_out_each_slot_once",
    ),
    "a release believes the message": Mutant(
        "release_slots",
        "AND (e.status = 'requested' OR is_terminal(e.status))",
        "",
        "test_admission:test_a_completion_of_what_has_not_ended_releases_nothing",
        ("running",),
    ),
    "arrivals do not look again whether a key was limited": Mutant(
        "accept",
        "AND q.gated AND (q.scope <> 'pool' OR q.paused)) THEN",
        "AND false) THEN",
        "test_admission_races:test_an_acceptance_that_meets_a_first_limit_is_done_again_and_obeys_it",
    ),
    "a first limit forgets what is in flight": Mutant(
        "set_queue",
        "IF p_scope = 'leaf' THEN",
        "IF false THEN",
        "test_admission_races:test_a_first_limit_waits_for_an_open_acceptance_and_counts_what_it_accepted",
    ),
    "a decision does not wait for the row": Mutant(
        "decide",
        "PERFORM 1 FROM execution e WHERE e.id = ANY(p_ids) ORDER BY e.id FOR UPDATE;",
        "",
        "test_admission_races:test_a_cancel_that_waited_for_a_claim_reaches_what_runs",
    ),
    "a live lease is declared lost": Mutant(
        "decide",
        "NOT lease_lives(e.worker_id) AS lost",
        "true AS lost",
        "test_admission_races:test_a_lease_that_was_renewed_while_the_reaper_waited_is_alive",
    ),
    "room that nobody looked at is not owed": Mutant(
        "admit_locked",
        "a.lane AND owes[u.n] AS owed",
        "false AS owed",
        "test_admission_lanes:test_a_chunk_is_never_exceeded_and_what_is_left_is_owed",
    ),
    "no limit is a limit of nothing": Mutant(
        "admit_locked",
        "CASE WHEN q.lim IS NULL THEN unlimited",
        "CASE WHEN q.lim IS NULL THEN 0",
        "test_admission:test_limit_zero_admits_none_and_no_limit_admits_all",
    ),
    "a waiter that a cancel took stays in its lane": Mutant(
        "leave_lanes",
        "DELETE FROM waiting w USING unnest(p_moves) m\n"
        "    WHERE (w.lane_id, w.seq) BETWEEN (m.lane_id, m.seq) AND (m.lane_id, m.seq);",
        "",
        "test_admission_races:test_a_cancel_and_an_admission_of_the_same_execution_exclude_each_other",
    ),
    "keys are read without their locks, in a group": Mutant(
        "admit",
        "ORDER BY id FOR NO KEY UPDATE);",
        "ORDER BY id);",
        "test_admission_keys:test_two_callers_that_look_at_one_lock_hand_out_its_free_slot_once",
    ),
    "arrivals do not lock their keys": Mutant(
        "accept",
        "PERFORM 1 FROM queue WHERE id = key.id FOR NO KEY UPDATE;",
        "PERFORM 1 FROM queue WHERE id = key.id;",
        "test_admission_keys:test_who_gets_its_place_first_is_admitted_first_whoever_came_first",
    ),
    "a release believes the message, in a group": Mutant(
        "release_slots",
        "(e.status = 'requested' OR is_terminal(e.status))",
        "true",
        "test_admission_keys:test_a_completion_that_is_forged_or_early_releases_no_key",
    ),
    "an admission does not count what moved": Mutant(
        "move_admitted",
        "coalesce(cardinality(moves), 0) <> cardinality(p_ids)",
        "false",
        "test_admission_keys:test_a_row_that_left_its_lane_without_the_locks_of_its_keys_stops_the_admission",
    ),
    "an admission does not ask for the status": Mutant(
        "move_admitted",
        "e.status = 'requested' AND e.seq = t.seq",
        "e.seq = t.seq",
        "test_admission_keys:test_a_row_that_left_its_lane_without_the_locks_of_its_keys_stops_the_admission",
    ),
    "the place is drawn before the lock": Mutant(
        "accept",
        "nextval('waiting_seq')",
        "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint + o.n",
        "test_admission_keys:test_who_gets_its_place_first_is_admitted_first_whoever_came_first",
    ),
    "arrivals do not look again whether a key was limited, in a group": Mutant(
        "accept",
        "WHERE q.id = ANY(weak) AND q.gated AND",
        "WHERE false AND",
        "test_admission_keys:test_an_arrival_that_meets_the_first_limit_of_its_customer_is_done_again_and_obeys_it",
    ),
    "a first limit forgets what is in flight, in a group": Mutant(
        "set_queue",
        "IF p_scope = 'leaf' THEN",
        "IF false THEN",
        "test_admission_keys:test_a_first_limit_on_a_group_counts_what_of_it_is_in_flight",
    ),
    "a first rate forgets what is in flight": Mutant(
        "set_queue",
        "IF p_scope = 'leaf' THEN",
        "IF false THEN",
        "test_admission_rates:test_a_first_rate_counts_nobody_who_went_before_and_gives_them_slots",
    ),
    "a key is made without its gate": Mutant(
        "make_lanes",
        "k.lim IS NOT NULL OR k.rate_every IS NOT NULL",
        "false",
        "test_admission_keys:test_one_customer_is_limited_and_the_others_are_not_affected",
    ),
    "a lane of fewer keys is taken for one whose other keys are new": Mutant(
        "make_lanes",
        "LEFT JOIN queue q",
        "JOIN queue q",
        "test_admission_keys:test_a_request_with_a_new_key_does_not_enter_the_lane_of_its_other_keys",
    ),
    "claims are ignored": Mutant(
        "admit_locked",
        "IF any_claim AND reserved[at]",
        "IF false AND reserved[at]",
        "test_admission_claims:test_a_claim_keeps_one_slot_free_and_only_from_those_behind_it",
    ),
    "claims are ignored where one gave way": Mutant(
        "admit_locked",
        "IF any_claim AND reserved[at]",
        "IF false AND reserved[at]",
        "test_admission_caps:test_what_a_head_that_gives_way_had_claimed_is_given_to_those_behind_it",
    ),
    "claims are never void": Mutant(
        "admit_locked",
        "array_agg(l.id IS NOT NULL AND claim_stands(l.id) ORDER BY u.n)",
        "array_agg(l.id IS NOT NULL ORDER BY u.n)",
        "test_admission_claims:test_a_claim_is_void_while_another_key_of_its_head_is_shut_and_stands_again_after",
        ({"paused": True}, {"paused": False}),
    ),
    "a worse head takes a claim over": Mutant(
        "admit_locked",
        "IF is_gate[at] AND (claimant[at] IS NULL OR",
        "IF is_gate[at] AND (true OR",
        "test_admission_claims:test_a_head_behind_a_standing_claim_does_not_take_it_over",
    ),
    "a head is more patient": Mutant(
        "admit_locked",
        "patience CONSTANT int := 3;",
        "patience CONSTANT int := 4;",
        "test_admission_claims:test_a_head_under_endless_load_on_each_of_its_keys_runs_after_it_was_passed_over_three_times",
    ),
    "a rate is no bound": Mutant(
        "admit_locked",
        "coalesce(tokens[u.n], unlimited)) END ORDER BY u.n),",
        "unlimited) END ORDER BY u.n),",
        "test_admission_rates:test_a_burst_goes_at_once_and_then_one_for_each_interval",
        (3,),
    ),
    "a rate is not used up": Mutant(
        "admit_locked",
        "took_tokens[at] := took_tokens[at] + 1;",
        "",
        "test_admission_rates:test_a_burst_goes_at_once_and_then_one_for_each_interval",
        (1,),
    ),
    "nobody is woken for a rate": Mutant(
        "admit_locked",
        "THEN to_timestamp(t.tat - (q.rate_burst - 1) * q.rate_every) END AS wake_at",
        "THEN NULL::timestamptz END AS wake_at",
        "test_admission_rates:test_a_key_is_to_be_looked_at_again_exactly_while_somebody_waits_for_a_token",
    ),
    "a rate that is due is not looked at": Mutant(
        "admit_locked",
        "WHERE q.owed OR q.wake_at IS NOT NULL",
        "WHERE q.owed",
        "test_admission_rates:test_who_comes_free_of_another_key_does_not_take_the_token_of_those_who_waited_longer",
    ),
    "everybody is woken for a rate": Mutant(
        "admit_locked",
        "AND tokens[u.n] <= took_tokens[u.n]",
        "",
        "test_admission_rates:test_with_tokens_left_a_key_is_not_looked_at_by_time",
    ),
    "arrivals pass who waits for the window": Mutant(
        "admit_locked",
        "OR (stage = 1 AND contested[at])",
        "",
        "test_admission_turns:test_arrivals_do_not_take_the_place_that_somebody_waits_for",
    ),
    "arrivals pass lanes that nobody looked at": Mutant(
        "admit_locked",
        "OR (horizon_prio[at] IS NOT NULL AND is_pool[at] = (stage = 2)",
        "OR (false AND is_pool[at] = (stage = 2)",
        "test_admission_many_lanes:test_who_comes_free_of_another_key_does_not_pass_lanes_that_were_not_looked_at",
    ),
    "a lane with an unknown key is passed": Mutant(
        "admit_locked",
        "OR shut[at] OR",
        "OR",
        "test_admission_many_lanes:test_what_a_call_could_not_lock_is_owed_and_nobody_passes_it",
    ),
    "room that nobody looked at is not owed, in a group": Mutant(
        "admit_locked",
        "a.lane AND owes[u.n] AS owed",
        "false AS owed",
        "test_admission_many_lanes:test_a_lost_caller_is_made_up_for_by_whoever_looks_at_owed_keys",
        (1,),
    ),
    "room that nobody could look at is not owed": Mutant(
        "admit_locked",
        "shut[at] := true; owes[at] := true;",
        "shut[at] := true;",
        "test_admission_many_lanes:test_what_a_call_could_not_lock_is_owed_and_nobody_passes_it",
    ),
    "room for more lanes than one looks at is not owed": Mutant(
        "admit_locked",
        "(cut OR horizon_prio[at] IS NOT NULL)",
        "cut",
        "test_admission_many_lanes:test_a_lane_whose_customer_is_busy_makes_room_for_the_next_ones",
    ),
    "a cap is no bound": Mutant(
        "enforce_caps",
        "waiting > cap",
        "false",
        "test_admission_caps:test_beyond_the_cap_the_newest_are_refused_as_failed_rows",
    ),
    "a cap refuses the oldest": Mutant(
        "enforce_caps",
        "WHERE key.id = ANY(l.keys) ORDER BY w.seq DESC",
        "WHERE key.id = ANY(l.keys) ORDER BY w.seq",
        "test_admission_caps:test_beyond_the_cap_the_newest_are_refused_as_failed_rows",
    ),
    "somebody of another lane gives way": Mutant(
        "enforce_caps",
        "WHERE lane_id = t.lane_id ORDER BY seq LIMIT t.n",
        "ORDER BY seq LIMIT t.n",
        "test_admission_caps:test_a_lane_gives_way_only_to_its_own",
    ),
    "a cap refuses more than are too many": Mutant(
        "enforce_caps",
        "(SELECT q.waiting - q.cap FROM queue q WHERE q.id = key.id)",
        "100",
        "test_admission_caps:test_beyond_the_cap_the_newest_are_refused_as_failed_rows",
    ),
    "an idle lane saves up turns": Mutant(
        "admit_locked",
        "ELSE greatest(p.turn, turns[width_bucket(p.parked_on, p_locked)]) END AS place",
        "ELSE p.turn END AS place",
        "test_admission_turns:test_a_lane_that_was_idle_does_not_save_up_turns",
    ),
    "a long lane buries a short one": Mutant(
        "admit_locked",
        "CASE stage WHEN 2 THEN b.place + s.taken ELSE b.turn END AS turn",
        "b.turn AS turn",
        "test_admission_turns:test_a_lane_of_a_thousand_does_not_bury_a_short_one_that_came_later",
    ),
    "lanes do not take turns": Mutant(
        "admit_locked",
        "CASE stage WHEN 2 THEN b.place + s.taken ELSE b.turn END AS turn",
        "b.turn AS turn",
        "test_admission_turns:test_three_lanes_take_turns_in_the_order_in_which_they_came",
    ),
    "a parent is dispatched": Mutant(
        "move_admitted",
        "CASE e.kind WHEN 'action' THEN 'scheduled' ELSE 'running' END::status",
        "'scheduled'",
        "test_admission_parents:test_a_parent_starts_when_its_key_has_room_and_is_sent_to_no_worker",
    ),
    "priority is ignored among lanes": Mutant(
        "admit_locked",
        "ORDER BY l.priority DESC, place, w.seq",
        "ORDER BY place, w.seq",
        "test_admission_keys:test_priority_goes_first_and_then_the_order_of_entering_over_lanes",
    ),
    "the lanes that wait longest are looked at last": Mutant(
        "admit_locked",
        "ORDER BY priority DESC, place, head_seq",
        "ORDER BY head_seq DESC",
        "test_admission_many_lanes:test_who_comes_later_does_not_pass_lanes_that_nobody_has_looked_at",
    ),
    "a claim keeps off those before it": Mutant(
        "admit_locked",
        "AND (r.priority < claimant_prio[at] OR (r.priority = claimant_prio[at] AND r.seq > claimant_seq[at]))",
        "",
        "test_admission_claims:test_a_claim_keeps_one_slot_free_and_only_from_those_behind_it",
    ),
    "a claim outlives its head": Mutant(
        "admit_locked",
        "LEFT JOIN lane l ON l.id = q.claim_lane AND l.head_seq = q.claim_seq",
        "LEFT JOIN lane l ON l.id = q.claim_lane",
        "test_admission_claims:test_what_a_cancelled_head_kept_free_goes_to_the_others_at_once",
    ),
    "a claim outlives its admission": Mutant(
        "admit_locked",
        "claimant[at] := NULL; reserved[at] := false;",
        "",
        "test_admission_claims:test_a_head_under_endless_load_on_each_of_its_keys_runs_after_it_was_passed_over_three_times",
    ),
    "who gives way fails": Mutant(
        "enforce_caps",
        "CASE key.cap_policy WHEN 'reject' THEN 'failed' ELSE 'cancelled' END",
        "'failed'",
        "test_admission_caps:test_the_oldest_of_its_lane_gives_way_to_each_newcomer",
    ),
    "slots in use are not counted": Mutant(
        "admit_locked",
        "ELSE greatest(0, q.lim - q.active - active_delta[u.n]) END",
        "ELSE q.lim END",
        "test_admission_keys:test_a_named_lock_is_held_by_one_at_a_time_in_the_order_of_entering_over_both_actions",
    ),
    "a pool blocks before the keys do": Mutant(
        "admit_locked",
        "WHEN q.scope = 'pool' THEN unlimited + 1 ELSE",
        "WHEN q.scope = 'pool' THEN -1 ELSE",
        "test_admission_turns:test_what_waits_for_a_key_holds_up_nobody_at_the_window",
    ),
    "a rate forgets what it let through": Mutant(
        "admit_locked",
        "greatest(coalesce(q.tat, 0), extract(epoch FROM clock_timestamp()))",
        "extract(epoch FROM clock_timestamp())",
        "test_admission_rates:test_what_comes_back_to_its_lane_takes_a_token_again",
    ),
    "a new rate keeps what the old one owed": Mutant(
        "set_queue",
        "CASE WHEN new.rate_every IS DISTINCT FROM old.rate_every THEN NULL ELSE q.tat END",
        "q.tat",
        "test_admission_rates:test_a_change_of_the_rate_holds_at_once",
        ({"rate_every": 60.0}, 1, 60),
    ),
    "a raised limit owes nothing": Mutant(
        "set_queue",
        "owed = EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = q.id AND l.head_seq IS NOT NULL)",
        "owed = false",
        "test_admission_many_lanes:test_a_lost_caller_is_made_up_for_by_whoever_looks_at_owed_keys",
        (0,),
    ),
    "nobody looks again after a cap": Mutant(
        "accept",
        "IF moved IS NOT NULL THEN",
        "IF false THEN",
        "test_admission_caps:test_what_was_turned_away_leaves_its_rate_nothing_to_wake_up_for",
    ),
}
