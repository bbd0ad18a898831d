//! The tags of both versions, what their values are, and how long they may be (SMPP v3.4 section 5.3.2, v5.0 section
//! 4.8.1).

use std::fmt;

use bytes::Bytes;

use super::Tlvs;
use crate::types::{
    BroadcastContentType, BroadcastFrequencyInterval, InterfaceVersion, MessageId, MessageState, NetworkErrorCode,
    NetworkId, StatusText, TimeString,
};

/// Which optional parameter a TLV is. Any value survives a round trip; Debug prints the specification's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

macro_rules! tags {
    ($($(#[$doc:meta])* $constant:ident $accessor:ident: $type:ty = $value:literal, $min:literal..=$max:literal;)*) => {
        impl Tag {
            $($(#[$doc])* pub const $constant: Tag = Tag($value);)*

            /// The specification's name, if it defines this tag.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($accessor)),)*
                    _ => None,
                }
            }

            /// The fewest and the most octets the value may have, if the specification defines this tag.
            ///
            /// For a C-Octet String the NUL counts for the maximum, but may be missing.
            pub const fn length_range(self) -> Option<(usize, usize)> {
                match self.0 {
                    $($value => Some(($min, $max)),)*
                    _ => None,
                }
            }
        }

        /// One accessor for each tag: the first TLV with it, or `None` if there is none or its length is wrong.
        impl Tlvs {
            $(
                $(#[$doc])*
                pub fn $accessor(&self) -> Option<$type> {
                    self.value(Tag::$constant)
                }
            )*
        }
    };
}

tags! {
    /// Part of the receiving device the message is for.
    DEST_ADDR_SUBUNIT dest_addr_subunit: u8 = 0x0005, 1..=1;
    /// Network of the destination.
    DEST_NETWORK_TYPE dest_network_type: u8 = 0x0006, 1..=1;
    /// Bearer asked for towards the destination.
    DEST_BEARER_TYPE dest_bearer_type: u8 = 0x0007, 1..=1;
    /// Telematic interworking at the destination.
    DEST_TELEMATICS_ID dest_telematics_id: u16 = 0x0008, 2..=2;
    /// Part of the sending device the message comes from.
    SOURCE_ADDR_SUBUNIT source_addr_subunit: u8 = 0x000D, 1..=1;
    /// Network of the source.
    SOURCE_NETWORK_TYPE source_network_type: u8 = 0x000E, 1..=1;
    /// Bearer the message came over.
    SOURCE_BEARER_TYPE source_bearer_type: u8 = 0x000F, 1..=1;
    /// Telematic interworking at the source.
    SOURCE_TELEMATICS_ID source_telematics_id: u8 = 0x0010, 1..=1;
    /// Seconds the message is to be kept.
    QOS_TIME_TO_LIVE qos_time_to_live: u32 = 0x0017, 4..=4;
    /// What the payload is: 0 default, 1 WCMP.
    PAYLOAD_TYPE payload_type: u8 = 0x0019, 1..=1;
    /// What the answer means, in words.
    ADDITIONAL_STATUS_INFO_TEXT additional_status_info_text: StatusText = 0x001D, 1..=256;
    /// The message a receipt is about.
    RECEIPTED_MESSAGE_ID receipted_message_id: MessageId = 0x001E, 1..=65;
    /// Which message waiting indicator to set.
    MS_MSG_WAIT_FACILITIES ms_msg_wait_facilities: u8 = 0x0030, 1..=1;
    /// How private the message is.
    PRIVACY_INDICATOR privacy_indicator: u8 = 0x0201, 1..=1;
    /// Subaddress of the source.
    SOURCE_SUBADDRESS source_subaddress: Bytes = 0x0202, 2..=23;
    /// Subaddress of the destination.
    DEST_SUBADDRESS dest_subaddress: Bytes = 0x0203, 2..=23;
    /// A reference the ESME chose.
    USER_MESSAGE_REFERENCE user_message_reference: u16 = 0x0204, 2..=2;
    /// A code the user chose as an answer.
    USER_RESPONSE_CODE user_response_code: u8 = 0x0205, 1..=1;
    /// Application port of the source.
    SOURCE_PORT source_port: u16 = 0x020A, 2..=2;
    /// Application port of the destination (dest_port in v5.0).
    DESTINATION_PORT destination_port: u16 = 0x020B, 2..=2;
    /// Reference that the segments of one message share.
    SAR_MSG_REF_NUM sar_msg_ref_num: u16 = 0x020C, 2..=2;
    /// Language of the message.
    LANGUAGE_INDICATOR language_indicator: u8 = 0x020D, 1..=1;
    /// Segments the message has.
    SAR_TOTAL_SEGMENTS sar_total_segments: u8 = 0x020E, 1..=1;
    /// Number of this segment, from 1.
    SAR_SEGMENT_SEQNUM sar_segment_seqnum: u8 = 0x020F, 1..=1;
    /// Version the message centre speaks.
    SC_INTERFACE_VERSION sc_interface_version: InterfaceVersion = 0x0210, 1..=1;
    /// Presentation and screening of callback_num.
    CALLBACK_NUM_PRES_IND callback_num_pres_ind: u8 = 0x0302, 1..=1;
    /// Text to show with callback_num.
    CALLBACK_NUM_ATAG callback_num_atag: Bytes = 0x0303, 0..=65;
    /// Messages waiting.
    NUMBER_OF_MESSAGES number_of_messages: u8 = 0x0304, 1..=1;
    /// Number to call back.
    CALLBACK_NUM callback_num: Bytes = 0x0381, 4..=19;
    /// Whether a delivery pending flag was set.
    DPF_RESULT dpf_result: u8 = 0x0420, 1..=1;
    /// Whether to set a delivery pending flag.
    SET_DPF set_dpf: u8 = 0x0421, 1..=1;
    /// Whether the mobile station can receive.
    MS_AVAILABILITY_STATUS ms_availability_status: u8 = 0x0422, 1..=1;
    /// What the network said about a failed delivery.
    NETWORK_ERROR_CODE network_error_code: NetworkErrorCode = 0x0423, 3..=3;
    /// The message, in the place of short_message.
    MESSAGE_PAYLOAD message_payload: Bytes = 0x0424, 0..=65_535;
    /// Why a delivery failed.
    DELIVERY_FAILURE_REASON delivery_failure_reason: u8 = 0x0425, 1..=1;
    /// Whether more messages for this destination follow.
    MORE_MESSAGES_TO_SEND more_messages_to_send: u8 = 0x0426, 1..=1;
    /// State of the message a receipt is about.
    MESSAGE_STATE message_state: MessageState = 0x0427, 1..=1;
    /// Load of the sender of this answer, 0 to 99 per cent (v5.0).
    CONGESTION_STATE congestion_state: u8 = 0x0428, 1..=1;
    /// USSD operation.
    USSD_SERVICE_OP ussd_service_op: u8 = 0x0501, 1..=1;
    /// Cell broadcast channel (v5.0).
    BROADCAST_CHANNEL_INDICATOR broadcast_channel_indicator: u8 = 0x0600, 1..=1;
    /// What a broadcast is about (v5.0).
    BROADCAST_CONTENT_TYPE broadcast_content_type: BroadcastContentType = 0x0601, 3..=3;
    /// More about what a broadcast is about (v5.0).
    BROADCAST_CONTENT_TYPE_INFO broadcast_content_type_info: Bytes = 0x0602, 1..=255;
    /// Class of a broadcast (v5.0).
    BROADCAST_MESSAGE_CLASS broadcast_message_class: u8 = 0x0603, 1..=1;
    /// How often to broadcast (v5.0).
    BROADCAST_REP_NUM broadcast_rep_num: u16 = 0x0604, 2..=2;
    /// Time between two broadcasts (v5.0).
    BROADCAST_FREQUENCY_INTERVAL broadcast_frequency_interval: BroadcastFrequencyInterval = 0x0605, 3..=3;
    /// Where to broadcast: format and description (v5.0). May come several times.
    BROADCAST_AREA_IDENTIFIER broadcast_area_identifier: Bytes = 0x0606, 1..=255;
    /// Why an area was refused, as a command_status (v5.0). May come several times.
    BROADCAST_ERROR_STATUS broadcast_error_status: u32 = 0x0607, 4..=4;
    /// How much of an area was reached, 0 to 100 per cent, 255 unknown (v5.0). May come several times.
    BROADCAST_AREA_SUCCESS broadcast_area_success: u8 = 0x0608, 1..=1;
    /// When the broadcast ended (v5.0).
    BROADCAST_END_TIME broadcast_end_time: TimeString = 0x0609, 16..=17;
    /// Who a broadcast is for (v5.0).
    BROADCAST_SERVICE_GROUP broadcast_service_group: Bytes = 0x060A, 1..=255;
    /// Billing information: format and description (v5.0).
    BILLING_IDENTIFICATION billing_identification: Bytes = 0x060B, 1..=1024;
    /// Network of the source (v5.0).
    SOURCE_NETWORK_ID source_network_id: NetworkId = 0x060D, 6..=65;
    /// Network of the destination (v5.0).
    DEST_NETWORK_ID dest_network_id: NetworkId = 0x060E, 6..=65;
    /// Node of the source, six digits (v5.0).
    SOURCE_NODE_ID source_node_id: Bytes = 0x060F, 6..=6;
    /// Node of the destination, six digits (v5.0).
    DEST_NODE_ID dest_node_id: Bytes = 0x0610, 6..=6;
    /// Whether number portability was looked up (v5.0).
    DEST_ADDR_NP_RESOLUTION dest_addr_np_resolution: u8 = 0x0611, 1..=1;
    /// Result of the number portability lookup (v5.0).
    DEST_ADDR_NP_INFORMATION dest_addr_np_information: Bytes = 0x0612, 10..=10;
    /// Country of the ported number, as E.164 country code (v5.0).
    DEST_ADDR_NP_COUNTRY dest_addr_np_country: Bytes = 0x0613, 1..=5;
    /// How long to display the message.
    DISPLAY_TIME display_time: u8 = 0x1201, 1..=1;
    /// How to alert the user (TDMA).
    SMS_SIGNAL sms_signal: u16 = 0x1203, 2..=2;
    /// How long the message is valid in the mobile station; v5.0 allows a unit and a count behind the first octet.
    MS_VALIDITY ms_validity: Bytes = 0x1204, 1..=4;
    /// Alert the user when the message arrives; empty in v3.4, a priority in v5.0.
    ALERT_ON_MESSAGE_DELIVERY alert_on_message_delivery: Bytes = 0x130C, 0..=1;
    /// How the user is to answer (Korean CDMA).
    ITS_REPLY_TYPE its_reply_type: u8 = 0x1380, 1..=1;
    /// Session of an interactive teleservice (Korean CDMA).
    ITS_SESSION_INFO its_session_info: Bytes = 0x1383, 2..=2;
}

impl Tag {
    /// v5.0's name of [`Tag::DESTINATION_PORT`].
    pub const DEST_PORT: Tag = Tag::DESTINATION_PORT;

    /// Whether the tag is the vendor's own: 0x1400 to 0x3fff (SMPP v3.4 section 5.3.2).
    #[inline]
    pub const fn is_vendor_specific(self) -> bool {
        0x1400 <= self.0 && self.0 <= 0x3fff
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "tag {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
