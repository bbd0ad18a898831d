//! The parameters of PDUs (SMPP v3.4 section 5.2, v5.0 section 4.7).
//!
//! Strings are slices of the frame they came in, checked for their maximum length. Codes are newtypes over the octet
//! on the wire: a value the specification does not know survives a round trip.

mod macros;

mod address;
mod bind;
mod broadcast;
mod data_coding;
mod destination;
mod esm_class;
mod flags;
mod message;
mod network_error;
mod registered_delivery;
mod state;
mod tlv_text;

pub use address::{Addr, Address, LongAddr, LongAddress, Npi, Ton};
pub use bind::{AddressRange, BindMode, InterfaceVersion, Password, SystemId, SystemType};
pub use broadcast::{BroadcastContentType, BroadcastFrequencyInterval};
pub use data_coding::DataCoding;
pub use destination::{DestAddress, DlName, UnsuccessSme};
pub use esm_class::{EsmClass, MessageType, MessagingMode};
pub use flags::{PriorityFlag, ReplaceIfPresent};
pub use message::{MessageId, ServiceType, TimeString};
pub use network_error::NetworkErrorCode;
pub use registered_delivery::{AckRequest, ReceiptRequest, RegisteredDelivery};
pub use state::MessageState;
pub use tlv_text::{NetworkId, StatusText};
