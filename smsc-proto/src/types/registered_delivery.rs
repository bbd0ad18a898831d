//! registered_delivery: which receipts and acknowledgements are asked for (SMPP v3.4 section 5.2.17).

use std::fmt;

use crate::types::macros::octet_field;

/// registered_delivery. Accessors name its parts; bits they do not cover survive a round trip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RegisteredDelivery(pub u8);

/// Bits 1 and 0: the delivery receipt of the message centre.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiptRequest {
    /// None.
    Never,
    /// On any final outcome.
    Always,
    /// On failure alone.
    OnFailure,
    /// On success alone (v5.0; reserved in v3.4).
    OnSuccess,
}

/// Bits 3 and 2: the acknowledgement of the receiving SME.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AckRequest {
    /// None.
    None,
    /// That of the SME.
    Delivery,
    /// That of its user.
    User,
    /// Both.
    DeliveryAndUser,
}

impl RegisteredDelivery {
    /// Nothing is asked for.
    pub const NONE: RegisteredDelivery = RegisteredDelivery(0);
    /// A receipt on any final outcome.
    pub const RECEIPT: RegisteredDelivery = RegisteredDelivery(1);
    /// A receipt on failure alone.
    pub const RECEIPT_ON_FAILURE: RegisteredDelivery = RegisteredDelivery(2);
    /// A receipt on success alone (v5.0).
    pub const RECEIPT_ON_SUCCESS: RegisteredDelivery = RegisteredDelivery(3);

    /// Which delivery receipt is asked for.
    pub const fn receipt(self) -> ReceiptRequest {
        match self.0 & 0b11 {
            0 => ReceiptRequest::Never,
            1 => ReceiptRequest::Always,
            2 => ReceiptRequest::OnFailure,
            _ => ReceiptRequest::OnSuccess,
        }
    }

    /// Which acknowledgement of the receiving SME is asked for.
    pub const fn acknowledgement(self) -> AckRequest {
        match self.0 >> 2 & 0b11 {
            0 => AckRequest::None,
            1 => AckRequest::Delivery,
            2 => AckRequest::User,
            _ => AckRequest::DeliveryAndUser,
        }
    }

    /// Whether intermediate notifications are asked for.
    #[inline]
    pub const fn intermediate_notification(self) -> bool {
        self.0 & 0b1_0000 != 0
    }
}

impl fmt::Debug for RegisteredDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} (receipt {:?}", self.0, self.receipt())?;
        if self.acknowledgement() != AckRequest::None {
            write!(f, ", acknowledgement {:?}", self.acknowledgement())?;
        }
        if self.intermediate_notification() {
            f.write_str(", intermediate notification")?;
        }
        f.write_str(")")
    }
}

octet_field!(RegisteredDelivery);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_the_specification_puts_them() {
        assert_eq!(RegisteredDelivery(0x01).receipt(), ReceiptRequest::Always);
        assert_eq!(RegisteredDelivery(0x12).receipt(), ReceiptRequest::OnFailure);
        assert_eq!(RegisteredDelivery(0x08).acknowledgement(), AckRequest::User);
        assert!(RegisteredDelivery(0x10).intermediate_notification());
        assert!(!RegisteredDelivery(0x0f).intermediate_notification());
    }
}
