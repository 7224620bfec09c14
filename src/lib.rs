//! gitops-agent writes down, at the moment of a commit, what the commit changed, how risky it is and
//! which rule of HIPAA or FDA it touches, and delivers that record to a store.
//!
//! ```text
//! git ──hook──▶ capture ──▶ facts ──▶ verdict ──▶ record ──▶ outbox ──▶ delivery ──▶ store
//!               (git2)     (what      (rules +    (the       (SQLite,   (one at a    (Cosmos DB |
//!                          changed)    risk)      document)   on disk)   time)        local)
//! ```
//!
//! One direction, no way back; each arrow is a plain value. The edges that are allowed between the
//! modules are listed, and held, by `tests/architecture.rs`.
//!
//! Invariants:
//! * The library never prints, never exits and never reads the environment; the binary does, in `cli`.
//! * The hook path (`capture` to `outbox`) contains no async code and reaches no network.
//! * The text of changed lines lives between `facts` and `rules` only, in a type that cannot be
//!   serialised.
//! * Only `capture` names libgit2, only `store::cosmos` names the Azure SDK.

// What tests share names this crate from outside.
#[cfg(all(test, feature = "fault_injection"))]
extern crate self as gitops_agent;

pub mod archive;
pub mod calibration;
pub mod capture;
pub mod config;
pub mod deferred;
pub mod delivery;
pub mod destination;
pub mod detach;
pub mod disk;
mod durable;
pub mod facts;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hex;
pub mod hints;
pub mod history;
pub mod inferred;
pub mod install;
pub mod judgement;
pub mod last_good;
mod literals;
pub mod outbox;
pub mod reconcile;
pub mod record;
pub mod recorder;
pub mod risk;
pub mod rules;
mod sqlite;
pub mod store;
pub mod szz;
pub mod time_limit;
pub mod verify;
