//! How numbers are written: brought to one form when they come in, rewritten for a link when they go out.

use std::borrow::Cow;

use smsc_proto::types::Ton;
use smsc_raft::model::{Address, NumberPlan, Rewrite};

/// The number behind an address, as queues, routes and lists have it: with a plan, a national number gets its country
/// code and an international one loses what stands in front of it; without one, a plus sign alone goes.
///
/// The type of number decides where it says national or international; where it says neither, the prefixes do.
pub fn canonical<'a>(address: &'a Address, plan: Option<&NumberPlan>) -> Cow<'a, str> {
    let digits = address.digits.as_str();
    if let Some(number) = digits.strip_prefix('+') {
        return Cow::Borrowed(number);
    }
    let Some(plan) = plan.filter(|plan| !plan.country_code.is_empty()) else { return Cow::Borrowed(digits) };
    let ton = u8::try_from(address.ton).map(Ton).unwrap_or(Ton::UNKNOWN);
    let stripped = |prefix: &str| if prefix.is_empty() { None } else { digits.strip_prefix(prefix) };
    let national = |number: &str| Cow::Owned(format!("{}{number}", plan.country_code));
    match ton {
        Ton::INTERNATIONAL => Cow::Borrowed(stripped(&plan.international_prefix).unwrap_or(digits)),
        Ton::NATIONAL => national(stripped(&plan.national_prefix).unwrap_or(digits)),
        Ton::UNKNOWN => match (stripped(&plan.international_prefix), stripped(&plan.national_prefix)) {
            (Some(number), _) => Cow::Borrowed(number),
            (None, Some(number)) => national(number),
            (None, None) => Cow::Borrowed(digits),
        },
        _ => Cow::Borrowed(digits),
    }
}

/// A number as a route has it written.
pub fn rewritten(number: &str, original: &Address, rewrite: Option<&Rewrite>) -> Address {
    let Some(rewrite) = rewrite else {
        return Address { ton: original.ton, npi: original.npi, digits: number.to_owned() };
    };
    let strip = usize::try_from(rewrite.strip).unwrap_or(usize::MAX);
    let digits = format!("{}{}", rewrite.prepend, number.get(strip..).unwrap_or(""));
    let (ton, npi) = if rewrite.with_type { (rewrite.ton, rewrite.npi) } else { (original.ton, original.npi) };
    Address { ton, npi, digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> NumberPlan {
        NumberPlan {
            country_code: "49".to_owned(),
            national_prefix: "0".to_owned(),
            international_prefix: "00".to_owned(),
        }
    }

    #[track_caller]
    fn check(ton: u32, digits: &str, number: &str) {
        let address = Address { ton, npi: 1, digits: digits.to_owned() };
        assert_eq!(canonical(&address, Some(&plan())), number);
    }

    #[test]
    fn every_way_to_write_a_number_means_the_same() {
        for (ton, digits) in [
            (0, "+4917155"),
            (0, "004917155"),
            (0, "017155"),
            (1, "4917155"),
            (1, "004917155"),
            (2, "17155"),
            (2, "017155"),
        ] {
            check(ton, digits, "4917155");
        }
        check(0, "1000", "1000");
        check(3, "0815", "0815");
        let address = Address { ton: 2, npi: 1, digits: "0171".to_owned() };
        assert_eq!(canonical(&address, None), "0171");
    }

    #[test]
    fn a_route_writes_it_as_its_link_wants() {
        let original = Address { ton: 0, npi: 0, digits: "017155".to_owned() };
        let national = Rewrite { strip: 2, prepend: "0".to_owned(), with_type: true, ton: 2, npi: 1 };
        let made = rewritten("4917155", &original, Some(&national));
        assert_eq!((made.digits.as_str(), made.ton, made.npi), ("017155", 2, 1));
        let plus = Rewrite { prepend: "+".to_owned(), ..Default::default() };
        let made = rewritten("4917155", &original, Some(&plus));
        assert_eq!((made.digits.as_str(), made.ton), ("+4917155", 0));
        assert_eq!(rewritten("49", &original, Some(&Rewrite { strip: 9, ..Default::default() })).digits, "");
        assert_eq!(rewritten("4917155", &original, None).digits, "4917155");
    }
}
