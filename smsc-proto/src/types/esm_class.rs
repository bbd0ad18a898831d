//! esm_class: messaging mode, message type and network features in one octet (SMPP v3.4 section 5.2.12).

use std::fmt;

use crate::types::macros::octet_field;

/// esm_class. Accessors name its parts; bits they do not cover survive a round trip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EsmClass(pub u8);

/// Bits 1 and 0: how the message centre treats a submitted message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessagingMode {
    /// The message centre's default, here store and forward.
    Default,
    /// One attempt, nothing stored, the answer says nothing of the outcome.
    Datagram,
    /// One attempt, and the answer tells the outcome.
    Forward,
    /// Stored until delivered or expired.
    StoreAndForward,
}

/// Bits 5 to 2: what the message is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageType {
    /// An ordinary message.
    Default,
    /// A delivery receipt of the message centre.
    DeliveryReceipt,
    /// A delivery acknowledgement of the receiving SME.
    DeliveryAcknowledgement,
    /// A manual or user acknowledgement of the receiving SME.
    UserAcknowledgement,
    /// A conversation was aborted (Korean CDMA).
    ConversationAbort,
    /// An intermediate notification of the message centre.
    IntermediateNotification,
    /// A value the specification reserves.
    Reserved,
}

impl EsmClass {
    const MODE: u8 = 0b0000_0011;
    const TYPE: u8 = 0b0011_1100;
    const UDHI: u8 = 0b0100_0000;
    const REPLY_PATH: u8 = 0b1000_0000;

    /// A delivery receipt of the message centre.
    pub const DELIVERY_RECEIPT: EsmClass = EsmClass(0b0000_0100);
    /// An intermediate notification of the message centre.
    pub const INTERMEDIATE_NOTIFICATION: EsmClass = EsmClass(0b0010_0000);

    /// The messaging mode asked for.
    pub const fn mode(self) -> MessagingMode {
        match self.0 & Self::MODE {
            0 => MessagingMode::Default,
            1 => MessagingMode::Datagram,
            2 => MessagingMode::Forward,
            _ => MessagingMode::StoreAndForward,
        }
    }

    /// What the message is.
    pub const fn message_type(self) -> MessageType {
        match (self.0 & Self::TYPE) >> 2 {
            0b0000 => MessageType::Default,
            0b0001 => MessageType::DeliveryReceipt,
            0b0010 => MessageType::DeliveryAcknowledgement,
            0b0100 => MessageType::UserAcknowledgement,
            0b0110 => MessageType::ConversationAbort,
            0b1000 => MessageType::IntermediateNotification,
            _ => MessageType::Reserved,
        }
    }

    /// Whether the message starts with a user data header.
    #[inline]
    pub const fn udhi(self) -> bool {
        self.0 & Self::UDHI != 0
    }

    /// Whether the reply shall go the way the message came.
    #[inline]
    pub const fn reply_path(self) -> bool {
        self.0 & Self::REPLY_PATH != 0
    }

    /// The same with or without the mark for a user data header.
    #[must_use]
    pub const fn with_udhi(self, udhi: bool) -> EsmClass {
        EsmClass(if udhi { self.0 | Self::UDHI } else { self.0 & !Self::UDHI })
    }

    /// The same with another messaging mode.
    #[must_use]
    pub const fn with_mode(self, mode: MessagingMode) -> EsmClass {
        let bits = match mode {
            MessagingMode::Default => 0,
            MessagingMode::Datagram => 1,
            MessagingMode::Forward => 2,
            MessagingMode::StoreAndForward => 3,
        };
        EsmClass(self.0 & !Self::MODE | bits)
    }
}

impl fmt::Debug for EsmClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} ({:?}, {:?}", self.0, self.mode(), self.message_type())?;
        if self.udhi() {
            f.write_str(", udhi")?;
        }
        if self.reply_path() {
            f.write_str(", reply_path")?;
        }
        f.write_str(")")
    }
}

octet_field!(EsmClass);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_the_specification_puts_them() {
        assert_eq!(EsmClass(0x03).mode(), MessagingMode::StoreAndForward);
        assert_eq!(EsmClass(0x04).message_type(), MessageType::DeliveryReceipt);
        assert_eq!(EsmClass(0x10).message_type(), MessageType::UserAcknowledgement);
        assert_eq!(EsmClass(0x18).message_type(), MessageType::ConversationAbort);
        assert_eq!(EsmClass(0x20).message_type(), MessageType::IntermediateNotification);
        assert_eq!(EsmClass(0x3c).message_type(), MessageType::Reserved);
        assert!(EsmClass(0x40).udhi() && !EsmClass(0x40).reply_path());
        assert!(EsmClass(0x80).reply_path() && !EsmClass(0x80).udhi());
        assert_eq!(EsmClass(0xc3).with_udhi(false).with_mode(MessagingMode::Datagram), EsmClass(0x81));
    }
}
