//! The contract of the store, one suite for every dialect: each case is an async function of a [`bed::Bed`], run
//! against PostgreSQL and against SQLite, each time in a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod bed;
mod chat;
mod concurrency;
mod cut_off;
mod fleet;
mod flows;
mod history;
mod interruptions;
mod keys;
mod knowledge;
mod leases;
mod listing;
mod model;
mod opening;
mod pools;
mod searches;
mod submission;
mod upkeep;

macro_rules! contract {
    ($($module:ident: $($case:ident),+;)+) => {
        mod postgres {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::bed::run(crate::bed::Dialect::Postgres, crate::$module::$case).await;
                })+
            })+
        }
        mod sqlite {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::bed::run(crate::bed::Dialect::Sqlite, crate::$module::$case).await;
                })+
            })+
        }
    };
}

contract! {
    opening: an_empty_database_asks_for_migrate, migrating_twice_changes_nothing;
    submission:
        a_batch_is_stored_with_one_outbox_row, a_later_time_makes_it_scheduled, relative_times_are_reckoned_by_the_stores_clock, everything_given_comes_back,
        fifty_equal_submits_make_one_run, the_same_key_with_another_body_conflicts,
        keys_repeated_within_a_call, used_keys_are_the_tenants_own, ten_thousand_at_once, nothing_is_stored_when_one_is_refused,
        an_odd_payload_comes_back_as_it_was;
    leases:
        the_path_of_one_run, a_claim_answers_each_message, claims_of_one_run_are_counted_once,
        a_stale_epoch_changes_nothing, renewing_carries_the_cancellation, a_lost_lease_is_told,
        checkpoints_are_found_by_the_next_attempt, a_retry_waits_and_then_counts, how_runs_end,
        checkpoints_go_when_it_ends, a_repeated_checkpoint_changes_nothing,
        progress_that_does_not_follow_is_refused;
    interruptions:
        a_lost_worker_is_not_a_failure, too_many_fail_the_run, the_second_asks_for_on_demand,
        a_cancelled_run_is_not_queued_again, cancelling_in_every_state, what_was_handed_back_keeps_its_nodes, what_was_handed_off_does_not_count;
    listing:
        pages_make_up_the_list, filters_hold, labels_must_all_match, nothing_crosses_tenants,
        events_are_read_in_windows;
    upkeep:
        due_runs_are_promoted, late_runs_expire, started_runs_do_not_expire, the_outbox_is_emptied,
        republishing_keeps_its_distance, the_backlog_is_exact, ahead_counts_who_comes_first,
        one_leader_per_role, limits_hold;
    history:
        a_history_is_what_happened, histories_are_walked_by_id, unfinished_are_those_that_run_or_are_late,
        strays_are_found_where_they_are, every_damage_is_named, a_retry_and_a_cancellation_add_up;
    fleet: the_last_wish_counts;
    flows:
        versions_are_numbered, ids_lead_to_the_newest_version, deleting_hides, flows_are_paged_by_name,
        writers_of_one_flow_take_turns;
    keys: keys_live_until_revoked, the_audit_log_is_paged, the_audit_log_bears_many_writers;
    chat:
        what_was_said_comes_back_newest_first, recalling_asks_for_what_it_wants, said_again_is_not_said_once_more,
        a_stale_epoch_says_nothing, a_tenant_hears_only_its_own, a_flow_does_not_rewrite_anothers_words,
        long_conversations_lose_their_beginning, sessions_are_listed_and_forgotten;
    knowledge:
        a_base_is_made_once, bases_are_paged_and_deleted, duplicates_are_left_out, brought_again_is_not_brought_once_more,
        a_stale_epoch_brings_nothing, another_tenants_base_is_none, vectors_of_another_length_are_refused,
        what_is_too_large_is_refused, writers_of_one_base_add_up;
    searches: the_nearest_are_found, distances_are_those_of_the_domain, tags_narrow_a_search;
    pools:
        a_run_is_claimed_by_who_can_execute_it, its_messages_go_to_its_pool, pools_of_one_queue_are_apart;
    concurrency:
        eight_claimers_share_the_runs, opposite_orders_do_not_block, interleaved_writers_leave_no_hole,
        opposite_submissions_do_not_block, two_reapers_do_no_harm;
    model: any_history_follows_the_state_machine;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_connection_dies_leads_no_more() {
    bed::run(bed::Dialect::Postgres, upkeep::a_killed_leader_leads_no_more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_process_held_goes_on() {
    bed::run(bed::Dialect::Postgres, cut_off::its_runs_are_given_to_others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_goes_on_without_the_extension() {
    bed::run(bed::Dialect::Postgres, searches::without_the_extension).await;
}
