//! The operations (SMPP v3.4 section 4, v5.0 section 4): one file per operation pair.
//!
//! ```
//! use bytes::BytesMut;
//! use smsc_proto::command::SequenceNumber;
//! use smsc_proto::pdu::{Body, Pdu, SubmitSm};
//! use smsc_proto::types::Address;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let submit = SubmitSm {
//!     destination_addr: Address::international("15551234567")?,
//!     short_message: "hello".into(),
//!     ..Default::default()
//! };
//! let pdu = Pdu::new(SequenceNumber::FIRST, Body::SubmitSm(submit));
//! let mut wire = BytesMut::new();
//! pdu.encode(&mut wire)?;
//! assert_eq!(Pdu::decode(wire.freeze())?, pdu);
//! # Ok(())
//! # }
//! ```

mod macros;

mod alert;
mod bind;
mod broadcast;
mod cancel;
mod data;
mod deliver;
mod link;
mod query;
mod replace;
mod submit;
mod submit_multi;

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

pub use alert::AlertNotification;
pub use bind::{Bind, BindResp, Outbind};
pub use broadcast::{
    BroadcastSm, BroadcastSmResp, CancelBroadcastSm, CancelBroadcastSmResp, QueryBroadcastSm, QueryBroadcastSmResp,
};
pub use cancel::{CancelSm, CancelSmResp};
pub use data::{DataSm, DataSmResp};
pub use deliver::{DeliverSm, DeliverSmResp};
pub use link::{EnquireLink, EnquireLinkResp, GenericNack, Unbind, UnbindResp};
pub use query::{QuerySm, QuerySmResp, QuerySmResult};
pub use replace::{ReplaceSm, ReplaceSmResp};
pub use submit::{SubmitSm, SubmitSmResp};
pub use submit_multi::{SubmitMulti, SubmitMultiResp, SubmitMultiResult};

use crate::codec::{Field, Reader, Writer};
use crate::command::{CommandId, Header, SequenceNumber};
use crate::error::{BadPdu, DecodeError, EncodeError, FieldError, FrameError, Problem};
use crate::status::{CommandStatus, RefusalStatus};
use crate::tlv::Tlvs;
use crate::types::BindMode;

/// One PDU: header and body. command_length and command_id follow from the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pdu {
    /// The result an answer carries; ESME_ROK in requests.
    pub status: CommandStatus,
    /// Pairs request and answer.
    pub sequence: SequenceNumber,
    /// The operation and its parameters.
    pub body: Body,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $command_id:ident;)*) => {
        /// The operation and its parameters.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Body {
            $($(#[$doc])* $variant($body),)*
        }

        impl Body {
            /// The command_id of this operation.
            #[inline]
            pub const fn command_id(&self) -> CommandId {
                match self {
                    $(Body::$variant(_) => CommandId::$command_id,)*
                }
            }

            /// The body without content of an operation, if the specification defines `command_id`.
            pub fn empty(command_id: CommandId) -> Option<Body> {
                match command_id {
                    $(CommandId::$command_id => Some(Body::$variant(Default::default())),)*
                    _ => None,
                }
            }

            /// The optional parameters.
            #[inline]
            pub fn tlvs(&self) -> &Tlvs {
                match self {
                    $(Body::$variant(body) => &body.tlvs,)*
                }
            }

            /// The optional parameters, to add or drop some.
            #[inline]
            pub fn tlvs_mut(&mut self) -> &mut Tlvs {
                match self {
                    $(Body::$variant(body) => &mut body.tlvs,)*
                }
            }

            #[inline]
            fn read(command_id: CommandId, reader: &mut Reader<'_>) -> Result<Body, FieldError> {
                match command_id {
                    $(CommandId::$command_id => Field::read(reader, "").map(Body::$variant),)*
                    _ => Err(FieldError::new("command_id", Problem::UnknownCommand)),
                }
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                match self {
                    $(Body::$variant(body) => body.write(writer, ""),)*
                }
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for Body {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                type Make = fn(&mut crate::arbitrary::Source<'_>) -> Body;
                const VARIANTS: &[Make] = &[
                    $(|source| Body::$variant(crate::arbitrary::Sample::sample(source)),)*
                ];
                VARIANTS[usize::from(source.u8()) % VARIANTS.len()](source)
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl Body {
            /// A body of this operation, if there is one.
            pub(crate) fn sample_of(
                command_id: CommandId,
                source: &mut crate::arbitrary::Source<'_>,
            ) -> Option<Body> {
                match command_id {
                    $(CommandId::$command_id => Some(Body::$variant(crate::arbitrary::Sample::sample(source))),)*
                    _ => None,
                }
            }
        }

        /// Every command_id there is a body for.
        #[cfg(any(test, feature = "testing"))]
        pub(crate) const COMMAND_IDS: &[CommandId] = &[$(CommandId::$command_id,)*];
    };
}

operations! {
    /// Asks for a session in which the ESME receives.
    BindReceiver(Bind) = BIND_RECEIVER;
    /// Answers bind_receiver.
    BindReceiverResp(BindResp) = BIND_RECEIVER_RESP;
    /// Asks for a session in which the ESME submits.
    BindTransmitter(Bind) = BIND_TRANSMITTER;
    /// Answers bind_transmitter.
    BindTransmitterResp(BindResp) = BIND_TRANSMITTER_RESP;
    /// Asks for a session for both.
    BindTransceiver(Bind) = BIND_TRANSCEIVER;
    /// Answers bind_transceiver.
    BindTransceiverResp(BindResp) = BIND_TRANSCEIVER_RESP;
    /// The message centre invites an ESME to bind. Has no answer.
    Outbind(Outbind) = OUTBIND;
    /// Ends a session.
    Unbind(Unbind) = UNBIND;
    /// Answers unbind.
    UnbindResp(UnbindResp) = UNBIND_RESP;
    /// Asks whether the peer is still there.
    EnquireLink(EnquireLink) = ENQUIRE_LINK;
    /// Answers enquire_link.
    EnquireLinkResp(EnquireLinkResp) = ENQUIRE_LINK_RESP;
    /// Answers what is no PDU, or none this side knows.
    GenericNack(GenericNack) = GENERIC_NACK;
    /// Submits a message.
    SubmitSm(SubmitSm) = SUBMIT_SM;
    /// Answers submit_sm.
    SubmitSmResp(SubmitSmResp) = SUBMIT_SM_RESP;
    /// Submits a message for several destinations.
    SubmitMulti(SubmitMulti) = SUBMIT_MULTI;
    /// Answers submit_multi.
    SubmitMultiResp(SubmitMultiResp) = SUBMIT_MULTI_RESP;
    /// Delivers a message or a receipt to an ESME.
    DeliverSm(DeliverSm) = DELIVER_SM;
    /// Answers deliver_sm.
    DeliverSmResp(DeliverSmResp) = DELIVER_SM_RESP;
    /// Submits or delivers a message in the leaner form.
    DataSm(DataSm) = DATA_SM;
    /// Answers data_sm.
    DataSmResp(DataSmResp) = DATA_SM_RESP;
    /// Asks for the state of a message.
    QuerySm(QuerySm) = QUERY_SM;
    /// Answers query_sm.
    QuerySmResp(QuerySmResp) = QUERY_SM_RESP;
    /// Cancels messages.
    CancelSm(CancelSm) = CANCEL_SM;
    /// Answers cancel_sm.
    CancelSmResp(CancelSmResp) = CANCEL_SM_RESP;
    /// Replaces the content of a message.
    ReplaceSm(ReplaceSm) = REPLACE_SM;
    /// Answers replace_sm.
    ReplaceSmResp(ReplaceSmResp) = REPLACE_SM_RESP;
    /// Tells an ESME that a subscriber is there again. Has no answer.
    AlertNotification(AlertNotification) = ALERT_NOTIFICATION;
    /// Submits a cell broadcast (v5.0).
    BroadcastSm(BroadcastSm) = BROADCAST_SM;
    /// Answers broadcast_sm.
    BroadcastSmResp(BroadcastSmResp) = BROADCAST_SM_RESP;
    /// Asks for the state of a cell broadcast (v5.0).
    QueryBroadcastSm(QueryBroadcastSm) = QUERY_BROADCAST_SM;
    /// Answers query_broadcast_sm.
    QueryBroadcastSmResp(QueryBroadcastSmResp) = QUERY_BROADCAST_SM_RESP;
    /// Cancels cell broadcasts (v5.0).
    CancelBroadcastSm(CancelBroadcastSm) = CANCEL_BROADCAST_SM;
    /// Answers cancel_broadcast_sm.
    CancelBroadcastSmResp(CancelBroadcastSmResp) = CANCEL_BROADCAST_SM_RESP;
}

impl Body {
    /// A bind request of the given mode.
    pub fn bind(mode: BindMode, bind: Bind) -> Body {
        match mode {
            BindMode::Transmitter => Body::BindTransmitter(bind),
            BindMode::Receiver => Body::BindReceiver(bind),
            BindMode::Transceiver => Body::BindTransceiver(bind),
        }
    }

    /// The answer to a bind request of the given mode.
    pub fn bind_resp(mode: BindMode, resp: BindResp) -> Body {
        match mode {
            BindMode::Transmitter => Body::BindTransmitterResp(resp),
            BindMode::Receiver => Body::BindReceiverResp(resp),
            BindMode::Transceiver => Body::BindTransceiverResp(resp),
        }
    }

    /// The mode and the parameters, if this is a bind request.
    pub fn as_bind(&self) -> Option<(BindMode, &Bind)> {
        match self {
            Body::BindTransmitter(bind) => Some((BindMode::Transmitter, bind)),
            Body::BindReceiver(bind) => Some((BindMode::Receiver, bind)),
            Body::BindTransceiver(bind) => Some((BindMode::Transceiver, bind)),
            _ => None,
        }
    }

    /// The mode and the parameters, if this answers a bind request.
    pub fn as_bind_resp(&self) -> Option<(BindMode, &BindResp)> {
        match self {
            Body::BindTransmitterResp(resp) => Some((BindMode::Transmitter, resp)),
            Body::BindReceiverResp(resp) => Some((BindMode::Receiver, resp)),
            Body::BindTransceiverResp(resp) => Some((BindMode::Transceiver, resp)),
            _ => None,
        }
    }
}

/// What an encoded PDU mostly fits in, so that encoding one reserves once.
const TYPICAL_LENGTH: usize = 256;

impl Pdu {
    /// A request, or an answer that reports success.
    pub fn new(sequence: SequenceNumber, body: Body) -> Pdu {
        Pdu { status: CommandStatus::ESME_ROK, sequence, body }
    }

    /// The answer that refuses a request: its own _resp without body, or a generic_nack if it has none or is not known.
    ///
    /// An answer is never refused: for its command_id, too, this is a generic_nack, which the caller does not send.
    pub fn refusal(command_id: CommandId, sequence: SequenceNumber, status: RefusalStatus) -> Pdu {
        let body =
            command_id.response().and_then(Body::empty).unwrap_or_else(|| Body::GenericNack(GenericNack::default()));
        Pdu { status: status.get(), sequence, body }
    }

    /// The command_id of the body.
    #[inline]
    pub const fn command_id(&self) -> CommandId {
        self.body.command_id()
    }

    /// Reads one whole frame, as [`Framer`](crate::frame::Framer) cuts it. Strings and octets of the PDU are slices of
    /// `frame`, which they keep alive.
    ///
    /// # Errors
    /// [`DecodeError::Answerable`] if the content is wrong: answer with its status, go on with the next frame.
    /// [`DecodeError::Fatal`] if `frame` is not one frame.
    #[inline]
    pub fn decode(frame: Bytes) -> Result<Pdu, DecodeError> {
        let header = Header::decode(&frame)?;
        if header.command_length as usize != frame.len() {
            return Err(FrameError::Length { header, length: frame.len() }.into());
        }
        let mut reader = Reader::new(&frame, Header::LENGTH);
        match Body::read(header.command_id, &mut reader) {
            Ok(body) => Ok(Pdu { status: header.command_status, sequence: header.sequence_number, body }),
            Err(fault) => Err(BadPdu { header, fault }.into()),
        }
    }

    /// Appends the PDU to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] if a list or short_message is longer than its length field can say; `out` is then as it was.
    #[inline]
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        out.reserve(TYPICAL_LENGTH);
        let mut writer = Writer::new(out);
        writer.u32(0);
        writer.u32(self.command_id().0);
        writer.u32(self.status.0);
        writer.u32(self.sequence.0);
        let written = self.body.write(&mut writer).and_then(|()| {
            let count = out.len() - start;
            u32::try_from(count).map_err(|_| EncodeError {
                field: "command_length",
                count,
                count_max: u32::MAX as usize,
            })
        });
        match written {
            Ok(command_length) => {
                out[start..start + 4].copy_from_slice(&command_length.to_be_bytes());
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }
}
