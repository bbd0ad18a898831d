//! Links to other message centres: stored, listed without their passwords, and how they stand.

use smsc_proto::rpc::admin::{LinkBindStatus, LinkStatus};
use smsc_raft::model::Link;

use crate::link::board::LinkBoardRow;

/// A link as operators see it.
pub(super) fn without_password(link: &Link) -> Link {
    Link { password: String::new(), ..link.clone() }
}

/// A link to store: what is not given of the password stays.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn to_store(link: Option<Link>, stored: Option<&Link>) -> Result<Link, String> {
    let mut link = link.ok_or("no link named")?;
    let kept = stored.map(|stored| stored.password.clone()).unwrap_or_default();
    crate::link::config::check(&link, !kept.is_empty())?;
    if link.password.is_empty() {
        link.password = kept;
    }
    Ok(link)
}

/// How the links stand: every configured one, whether it runs or not.
pub(super) fn status(links: &[Link], rows: &[LinkBoardRow]) -> Vec<LinkStatus> {
    let status = |link: &Link| {
        let row = rows.iter().find(|row| row.name == link.name).cloned().unwrap_or_default();
        let bind = |bind: &crate::link::board::BindStatus| LinkBindStatus {
            mode: bind.mode.to_owned(),
            state: bind.state.to_owned(),
            address: bind.address.clone(),
            error: bind.error.clone(),
            since_ms: bind.since_ms,
        };
        let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        LinkStatus {
            name: link.name.clone(),
            disabled: link.disabled,
            binds: row.binds.iter().map(bind).collect(),
            in_flight: count(row.in_flight),
            throttled_until_ms: row.throttled_until_ms,
            rate_per_s: row.rate_per_s.map_or(0, |rate| rate.round().clamp(1.0, f64::from(u32::MAX)) as u32),
            submitted: row.counts.submitted,
            accepted: row.counts.accepted,
            refused: row.counts.refused,
            throttled: row.counts.throttled,
            lost: row.counts.lost,
            receipts: row.receipts,
            receipts_unmatched: row.receipts_unmatched,
            mo: row.mo,
            receipts_held: count(row.receipts_held),
        }
    };
    links.iter().map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(password: &str) -> Link {
        Link {
            name: "one".to_owned(),
            addresses: vec!["localhost:2775".to_owned()],
            system_id: "me".to_owned(),
            password: password.to_owned(),
            ..Link::default()
        }
    }

    #[test]
    fn the_password_stays_unless_one_is_given() {
        let kept = to_store(Some(link("")), Some(&link("old"))).expect("has one");
        assert_eq!(kept.password, "old");
        assert_eq!(to_store(Some(link("new")), Some(&link("old"))).expect("has one").password, "new");
        assert!(to_store(Some(link("")), None).is_err());
        assert!(without_password(&link("old")).password.is_empty());
    }

    #[test]
    fn a_link_that_does_not_run_is_listed() {
        let found = status(&[link("x")], &[]);
        assert_eq!((found.len(), found[0].name.as_str(), found[0].binds.len()), (1, "one", 0));
    }
}
