//! submit_multi: its addresses and distribution lists, each destination a submission of its own. Pure.
//!
//! All submissions of one submit_multi are stored in one step under consecutive ids. The ESME is told the first one's
//! id and knows all of them by it: receipts name it and tell the destinations apart by their source address; query_sm,
//! cancel_sm and replace_sm take it for all of them.

use bytes::Bytes;
use smsc_proto::pdu::{SubmitMulti, SubmitSm};
use smsc_proto::time::WallTime;
use smsc_proto::types::{Address, DestAddress, MessagingMode, Npi, ReplaceIfPresent, Ton, UnsuccessSme};
use smsc_raft::model::{self, Submission};

use super::ports::Directory;
use super::status::SubmitRefusal;
use super::submit::{self, Submitter};

/// Destinations of one submit_multi, with those that its lists stand for: they share one entry of the log.
pub const DESTINATIONS_MAX: usize = 1_000;
/// Octets that these may take together; an entry of the log travels in one message between nodes, which holds 64 MiB.
const OCTETS_MAX: usize = 4 << 20;
/// unsuccess_smes of one answer: no_unsuccess has one octet (SMPP v3.4 section 4.5.2).
const UNSUCCESS_MAX: usize = 255;

/// What becomes of a submit_multi.
#[derive(Debug)]
pub struct Sorted {
    /// To be stored, in the order of the request.
    pub accepted: Vec<Submission>,
    /// To be told; a refused destination beyond the 255th is not.
    pub refused: Vec<UnsuccessSme>,
}

/// The submissions and refusals of `multi`, received at `now`. `admit` says whether one more submission is within what
/// the account may.
///
/// # Errors
/// [`SubmitRefusal`] of the request as a whole: nothing is stored.
pub fn sort(
    multi: &SubmitMulti,
    submitter: Submitter<'_>,
    directory: &Directory,
    now: WallTime,
    mut admit: impl FnMut(&Submission) -> Result<(), SubmitRefusal>,
) -> Result<Sorted, SubmitRefusal> {
    if multi.dest_addresses.is_empty() {
        return Err(SubmitRefusal::NoDestinations);
    }
    // Its answer has no place for more than one outcome (SMPP v3.4 section 4.5).
    if multi.esm_class.mode() == MessagingMode::Forward {
        return Err(SubmitRefusal::EsmClass);
    }
    let destinations = destinations(multi, &submitter.account.system_id, directory);
    let octets = multi.short_message.len() + multi.tlvs.as_bytes().len();
    if destinations.len() > DESTINATIONS_MAX || destinations.len() * octets > OCTETS_MAX {
        return Err(SubmitRefusal::TooManyDestinations);
    }
    let mut sorted = Sorted { accepted: Vec::with_capacity(destinations.len()), refused: Vec::new() };
    for (destination, found) in destinations {
        let made = found.and_then(|()| {
            let submit = single(multi, destination.clone());
            submit::submission(&submit, submitter, directory, now)
        });
        match made.and_then(|submission| admit(&submission).map(|()| submission)) {
            Ok(submission) => sorted.accepted.push(submission),
            Err(refusal) => sorted.refused.push(unsuccess(destination, &refusal)),
        }
    }
    sorted.refused.truncate(UNSUCCESS_MAX);
    let count = sorted.accepted.len() as u32;
    for (index, submission) in (0..count).zip(&mut sorted.accepted) {
        (submission.multi_index, submission.multi_count) = (index, count);
    }
    Ok(sorted)
}

/// Every destination, with those of the lists; an error for a list that cannot be used.
fn destinations(
    multi: &SubmitMulti,
    account: &str,
    directory: &Directory,
) -> Vec<(Address, Result<(), SubmitRefusal>)> {
    let mut found = Vec::new();
    for destination in &multi.dest_addresses {
        let name = match destination {
            DestAddress::Sme(address) => {
                found.push((address.clone(), Ok(())));
                continue;
            }
            DestAddress::DistributionList(name) => name,
        };
        let refusal = match name.as_str().and_then(|name| directory.lists.get(name)) {
            Some(list) if list.account.is_empty() || list.account == account => {
                found.extend(list.members.iter().filter_map(member).map(|address| (address, Ok(()))));
                continue;
            }
            Some(_) => SubmitRefusal::ForeignList,
            None => SubmitRefusal::UnknownList,
        };
        // unsuccess_sme has no room for the name of a list but that of an address, which is as long.
        let named = Address::new(Ton::UNKNOWN, Npi::UNKNOWN, Bytes::copy_from_slice(name.as_bytes()));
        found.push((named.unwrap_or_default(), Err(refusal)));
    }
    found
}

/// A member's address; `None` for one that no PDU could carry, which is not stored.
fn member(address: &model::Address) -> Option<Address> {
    let ton = Ton(u8::try_from(address.ton).ok()?);
    let npi = Npi(u8::try_from(address.npi).ok()?);
    Address::new(ton, npi, address.digits.clone()).ok()
}

fn single(multi: &SubmitMulti, destination_addr: Address) -> SubmitSm {
    SubmitSm {
        service_type: multi.service_type.clone(),
        source_addr: multi.source_addr.clone(),
        destination_addr,
        esm_class: multi.esm_class,
        protocol_id: multi.protocol_id,
        priority_flag: multi.priority_flag,
        schedule_delivery_time: multi.schedule_delivery_time.clone(),
        validity_period: multi.validity_period.clone(),
        registered_delivery: multi.registered_delivery,
        // Not used in submit_multi (SMPP v3.4 section 4.5.1).
        replace_if_present_flag: ReplaceIfPresent::DO_NOT_REPLACE,
        data_coding: multi.data_coding,
        sm_default_msg_id: multi.sm_default_msg_id,
        short_message: multi.short_message.clone(),
        tlvs: multi.tlvs.clone(),
    }
}

fn unsuccess(destination: Address, refusal: &SubmitRefusal) -> UnsuccessSme {
    UnsuccessSme {
        dest_addr_ton: destination.ton,
        dest_addr_npi: destination.npi,
        destination_addr: destination.addr.detached(),
        error_status_code: refusal.status().get(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::smpp::fakes::directory;
    use smsc_proto::status::CommandStatus;
    use smsc_proto::types::{EsmClass, InterfaceVersion};
    use smsc_raft::model::DistributionList;

    const NOW: WallTime = WallTime::from_millis(1_795_229_569_000);

    fn to(digits: &'static str) -> DestAddress {
        DestAddress::Sme(Address::international(digits).expect("short"))
    }

    fn list(name: &str) -> DestAddress {
        DestAddress::DistributionList(name.parse().expect("short"))
    }

    fn multi(destinations: Vec<DestAddress>) -> SubmitMulti {
        SubmitMulti { dest_addresses: destinations, short_message: "hello".into(), ..SubmitMulti::default() }
    }

    fn with_lists(lists: &[(&str, &str, usize)]) -> Directory {
        let mut directory = directory(|_| {});
        for (name, account, members) in lists {
            let member = |index: usize| model::Address { ton: 1, npi: 1, digits: format!("1555{index:04}") };
            let list = DistributionList {
                name: (*name).to_owned(),
                account: (*account).to_owned(),
                members: (0..*members).map(member).collect(),
            };
            directory.lists.insert((*name).to_owned(), Arc::new(list));
        }
        directory
    }

    fn sorted(multi: &SubmitMulti, directory: &Directory) -> Result<Sorted, SubmitRefusal> {
        let account = &directory.accounts["esme1"];
        let submitter = Submitter { account, version: InterfaceVersion::V3_4, session_id: 7 };
        sort(multi, submitter, directory, NOW, |_| Ok(()))
    }

    #[test]
    fn every_destination_is_a_submission_of_its_own_and_lists_are_their_members() {
        let directory = with_lists(&[("friends", "", 2), ("own", "esme1", 1), ("foreign", "esme2", 1)]);
        let multi = multi(vec![to("15551"), list("friends"), to("999"), list("own"), list("foreign"), list("nobody")]);
        let Sorted { accepted, refused } = sorted(&multi, &directory).expect("some are good");
        let digits = |submission: &Submission| submission.destination.clone().expect("always there").digits;
        let numbers: Vec<_> = accepted.iter().map(|made| (digits(made), made.multi_index, made.multi_count)).collect();
        let expected = [("15551", 0), ("15550000", 1), ("15550001", 2), ("15550000", 3)];
        assert_eq!(numbers, expected.map(|(digits, index)| (digits.to_owned(), index, 4)));
        let refused: Vec<_> = refused
            .iter()
            .map(|unsuccess| (unsuccess.destination_addr.to_string(), unsuccess.error_status_code))
            .collect();
        assert_eq!(
            refused,
            [
                ("999".to_owned(), CommandStatus::ESME_RINVDSTADR),
                ("foreign".to_owned(), CommandStatus::ESME_RCNTSUBDL),
                ("nobody".to_owned(), CommandStatus::ESME_RINVDLNAME),
            ]
        );
    }

    #[test]
    fn the_request_as_a_whole_is_refused() {
        let directory = with_lists(&[("all", "", 1_000)]);
        let refused = |multi: &SubmitMulti| sorted(multi, &directory).expect_err("refused");
        assert_eq!(refused(&multi(vec![])), SubmitRefusal::NoDestinations);
        assert_eq!(refused(&multi(vec![list("all"), to("15551")])), SubmitRefusal::TooManyDestinations);
        let large = SubmitMulti { tlvs: large_payload(), short_message: Bytes::new(), ..multi(vec![list("all")]) };
        assert_eq!(refused(&large), SubmitRefusal::TooManyDestinations);
        let forward = SubmitMulti { esm_class: EsmClass(2), ..multi(vec![to("15551")]) };
        assert_eq!(refused(&forward), SubmitRefusal::EsmClass);
        assert_eq!(sorted(&multi(vec![list("all")]), &directory).expect("as many as may be").accepted.len(), 1_000);
    }

    fn large_payload() -> smsc_proto::tlv::Tlvs {
        let mut tlvs = smsc_proto::tlv::Tlvs::new();
        tlvs.push(smsc_proto::tlv::Tag::MESSAGE_PAYLOAD, &[b'x'; 5_000]).expect("it fits");
        tlvs
    }

    #[test]
    fn what_is_over_the_rate_is_told_and_no_more_than_the_answer_holds() {
        let directory = with_lists(&[("all", "", 300)]);
        let mut left = 2;
        let account = &directory.accounts["esme1"];
        let submitter = Submitter { account, version: InterfaceVersion::V3_4, session_id: 7 };
        let admit = |_: &Submission| {
            left -= 1;
            if left >= 0 { Ok(()) } else { Err(SubmitRefusal::Rate) }
        };
        let sorted = sort(&multi(vec![list("all")]), submitter, &directory, NOW, admit).expect("two are good");
        assert_eq!((sorted.accepted.len(), sorted.refused.len()), (2, 255));
        assert_eq!(sorted.accepted[1].multi_count, 2);
        assert!(sorted.refused.iter().all(|refused| refused.error_status_code == CommandStatus::ESME_RTHROTTLED));
    }
}
