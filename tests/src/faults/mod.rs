//! The fault campaign: real processes under load, everything that goes wrong to them chosen from one seed, and a judge
//! outside who trusts nobody.
//!
//! - [`plan`]: what happens in each round, from the seed (pure)
//! - [`strike`]: brings a fault about on a host of the lab, and undoes it
//! - [`campaign`]: rounds under load; after every few of them the faults end, everything must settle, and all that was
//!   promised is looked at

pub mod campaign;
pub mod plan;
pub mod strike;

pub use campaign::{Campaign, CampaignOptions, Summary};
