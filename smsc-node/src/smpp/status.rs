//! Which command_status each refusal earns, and how it is counted (SMPP v3.4 section 5.1.3, v5.0 section 4.7.6).

use smsc_proto::error::TlvLengthError;
use smsc_proto::status::RefusalStatus;
use smsc_proto::types::BindMode;
use smsc_raft::store::ProposeError;
use thiserror::Error;

use crate::metrics::{BindResult, SubmitResult};

/// Why a bind is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BindRefusal {
    /// No account has this system_id.
    #[error("there is no such account")]
    UnknownAccount,
    /// The password is not the account's.
    #[error("the password is wrong")]
    WrongPassword,
    /// The account is switched off.
    #[error("the account is disabled")]
    Disabled,
    /// The account may not bind in this mode.
    #[error("the account may not bind as {0}")]
    Mode(BindMode),
    /// It comes from a network that is not the account's.
    #[error("the account may not bind from this address")]
    Network,
    /// The account binds through TLS only.
    #[error("the account may bind through TLS only")]
    TlsNeeded,
    /// The ESME showed no certificate with the account's name.
    #[error("the ESME showed no certificate that carries the account's name")]
    Certificate,
    /// address_range is no regular expression, or one that is too large.
    #[error("address_range is no regular expression")]
    AddressRange,
    /// The account has as many binds as it may.
    #[error("the account has as many binds as it may")]
    TooManyBinds,
    /// The node takes on no more at the moment.
    #[error("the node is overloaded")]
    Overloaded,
}

impl BindRefusal {
    /// What the bind response carries.
    ///
    /// The limit of binds has no status of its own: ESME_RALYBND is the one that says that it is the binds that the
    /// account has already, and not its credentials, that stand in the way.
    pub fn status(&self) -> RefusalStatus {
        match self {
            BindRefusal::UnknownAccount => RefusalStatus::ESME_RINVSYSID,
            BindRefusal::WrongPassword => RefusalStatus::ESME_RINVPASWD,
            BindRefusal::Disabled
            | BindRefusal::Mode(_)
            | BindRefusal::Network
            | BindRefusal::TlsNeeded
            | BindRefusal::Certificate
            | BindRefusal::AddressRange => RefusalStatus::ESME_RBINDFAIL,
            BindRefusal::TooManyBinds => RefusalStatus::ESME_RALYBND,
            BindRefusal::Overloaded => RefusalStatus::ESME_RSYSERR,
        }
    }

    /// How it is counted.
    pub fn result(&self) -> BindResult {
        match self {
            BindRefusal::UnknownAccount
            | BindRefusal::WrongPassword
            | BindRefusal::Network
            | BindRefusal::TlsNeeded
            | BindRefusal::Certificate => BindResult::Credentials,
            BindRefusal::TooManyBinds => BindResult::Limit,
            BindRefusal::Disabled | BindRefusal::Mode(_) | BindRefusal::AddressRange | BindRefusal::Overloaded => {
                BindResult::Other
            }
        }
    }
}

/// Why a submission, or a change to one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitRefusal {
    /// service_type is no text.
    #[error("service_type is no ASCII text")]
    ServiceType,
    /// No source address, and the account owns no number to stand in.
    #[error("there is no source address and the account has no short code")]
    NoSource,
    /// source_addr_ton has a reserved value.
    #[error("source_addr_ton is reserved")]
    SourceTon,
    /// source_addr_npi has a reserved value.
    #[error("source_addr_npi is reserved")]
    SourceNpi,
    /// source_addr is not what its type of number promises.
    #[error("source_addr is no number, or no name of up to 11 characters")]
    Source,
    /// dest_addr_ton has a reserved value, or says that the destination is a name.
    #[error("dest_addr_ton is reserved or alphanumeric")]
    DestinationTon,
    /// dest_addr_npi has a reserved value.
    #[error("dest_addr_npi is reserved")]
    DestinationNpi,
    /// destination_addr is empty or no number.
    #[error("destination_addr is no number")]
    Destination,
    /// No route covers the destination.
    #[error("the destination is not routed")]
    NotRouted(RefusalStatus),
    /// A mode or type of message that cannot be submitted here.
    #[error("esm_class asks for what is not offered")]
    EsmClass,
    /// priority_flag above 4.
    #[error("priority_flag is above 4")]
    Priority,
    /// registered_delivery with reserved bits.
    #[error("registered_delivery has reserved bits set")]
    RegisteredDelivery,
    /// replace_if_present_flag above 1.
    #[error("replace_if_present_flag is above 1")]
    ReplaceFlag,
    /// A message that is tried at once and never again, in the place of one that waits.
    #[error("a message of datagram or transaction mode replaces none")]
    ReplaceAtOnce,
    /// number_of_messages above 99.
    #[error("number_of_messages is above 99")]
    NumberOfMessages,
    /// A TLV that the message centre acts upon with a value that its tag does not have.
    #[error("set_dpf is neither 0 nor 1")]
    SetDpf,
    /// There are no predefined messages.
    #[error("there is no predefined message of this number")]
    PredefinedMessage,
    /// schedule_delivery_time is no time, is past or too far ahead.
    #[error("schedule_delivery_time is no time, in the past or too far ahead")]
    Schedule,
    /// validity_period is no time, or over before the message could be delivered.
    #[error("validity_period is no time, or over before the message may be delivered")]
    Expiry,
    /// The message is longer than its field may be.
    #[error("the message is longer than short_message may be, or shorter than its header")]
    Length,
    /// Both short_message and message_payload.
    #[error("short_message and message_payload exclude each other")]
    TwoTexts,
    /// A TLV with a length its tag does not have.
    #[error(transparent)]
    Tlv(#[from] TlvLengthError),
    /// submit_multi without a destination.
    #[error("there is no destination")]
    NoDestinations,
    /// More destinations, with those of its lists, than one submit_multi may have.
    #[error("there are too many destinations for one submit_multi")]
    TooManyDestinations,
    /// A distribution list that is not there.
    #[error("there is no distribution list of this name")]
    UnknownList,
    /// A distribution list of another account.
    #[error("the distribution list is another account's")]
    ForeignList,
    /// The account was deleted or disabled after it had bound.
    #[error("the account may not submit any more")]
    AccountGone,
    /// More submissions than the account may make.
    #[error("the account's rate is used up")]
    Rate,
    /// As many messages wait of the account, or for the number, as may.
    #[error("as many messages wait as may, of the account or for the number")]
    QueueFull,
    /// The node takes on no more at the moment.
    #[error("the node is overloaded")]
    Overloaded,
}

impl SubmitRefusal {
    /// What the response carries.
    pub fn status(&self) -> RefusalStatus {
        match self {
            SubmitRefusal::ServiceType => RefusalStatus::ESME_RINVSERTYP,
            SubmitRefusal::NoSource | SubmitRefusal::Source => RefusalStatus::ESME_RINVSRCADR,
            SubmitRefusal::SourceTon => RefusalStatus::ESME_RINVSRCTON,
            SubmitRefusal::SourceNpi => RefusalStatus::ESME_RINVSRCNPI,
            SubmitRefusal::DestinationTon => RefusalStatus::ESME_RINVDSTTON,
            SubmitRefusal::DestinationNpi => RefusalStatus::ESME_RINVDSTNPI,
            SubmitRefusal::Destination => RefusalStatus::ESME_RINVDSTADR,
            SubmitRefusal::NotRouted(status) => *status,
            SubmitRefusal::EsmClass => RefusalStatus::ESME_RINVESMCLASS,
            SubmitRefusal::Priority => RefusalStatus::ESME_RINVPRTFLG,
            SubmitRefusal::RegisteredDelivery => RefusalStatus::ESME_RINVREGDLVFLG,
            SubmitRefusal::ReplaceFlag => RefusalStatus::ESME_RINVREPFLAG,
            SubmitRefusal::ReplaceAtOnce => RefusalStatus::ESME_RINVSUBREP,
            SubmitRefusal::NumberOfMessages => RefusalStatus::ESME_RINVNUMMSGS,
            SubmitRefusal::SetDpf => RefusalStatus::ESME_RINVTLVVAL,
            SubmitRefusal::PredefinedMessage => RefusalStatus::ESME_RINVDFTMSGID,
            SubmitRefusal::Schedule => RefusalStatus::ESME_RINVSCHED,
            SubmitRefusal::Expiry => RefusalStatus::ESME_RINVEXPIRY,
            SubmitRefusal::Length => RefusalStatus::ESME_RINVMSGLEN,
            SubmitRefusal::TwoTexts => RefusalStatus::ESME_ROPTPARNOTALLWD,
            SubmitRefusal::Tlv(error) => error.status(),
            SubmitRefusal::NoDestinations | SubmitRefusal::TooManyDestinations => RefusalStatus::ESME_RINVNUMDESTS,
            SubmitRefusal::UnknownList => RefusalStatus::ESME_RINVDLNAME,
            SubmitRefusal::ForeignList => RefusalStatus::ESME_RCNTSUBDL,
            SubmitRefusal::AccountGone => RefusalStatus::ESME_RSUBMITFAIL,
            SubmitRefusal::Rate | SubmitRefusal::Overloaded => RefusalStatus::ESME_RTHROTTLED,
            SubmitRefusal::QueueFull => RefusalStatus::ESME_RMSGQFUL,
        }
    }

    /// How it is counted.
    pub fn result(&self) -> SubmitResult {
        match self {
            SubmitRefusal::Destination
            | SubmitRefusal::DestinationTon
            | SubmitRefusal::DestinationNpi
            | SubmitRefusal::NotRouted(_)
            | SubmitRefusal::NoDestinations
            | SubmitRefusal::TooManyDestinations
            | SubmitRefusal::UnknownList
            | SubmitRefusal::ForeignList => SubmitResult::Destination,
            SubmitRefusal::Rate | SubmitRefusal::Overloaded | SubmitRefusal::QueueFull => SubmitResult::Throttled,
            SubmitRefusal::AccountGone => SubmitResult::Other,
            _ => SubmitResult::Malformed,
        }
    }
}

/// Why a cell broadcast operation is refused (v5.0 section 4.4): there is no link to a cell broadcast centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastRefusal {
    /// broadcast_sm without a TLV that it must have.
    MissingTlv,
    /// broadcast_sm with more areas than it may have.
    TooManyAreas,
    /// broadcast_area_identifier of a format that is reserved.
    AreaFormat,
    /// broadcast_area_identifier without the name that it promises.
    AliasName,
    /// broadcast_content_type of a network that is reserved.
    ContentType,
    /// broadcast_frequency_interval of a unit that is reserved.
    FrequencyInterval,
    /// broadcast_message_class above 3.
    MessageClass,
    /// broadcast_channel_indicator above 1.
    ChannelIndicator,
    /// broadcast_sm: nobody would send it.
    NoLink,
    /// query_broadcast_sm: nothing was accepted that could be asked for.
    NothingToQuery,
    /// cancel_broadcast_sm: nothing was accepted that could be cancelled.
    NothingToCancel,
}

impl BroadcastRefusal {
    /// What the response carries.
    pub fn status(self) -> RefusalStatus {
        match self {
            BroadcastRefusal::MissingTlv => RefusalStatus::ESME_RMISSINGTLV,
            BroadcastRefusal::TooManyAreas => RefusalStatus::ESME_RINVNUMBCAST_AREAS,
            BroadcastRefusal::AreaFormat => RefusalStatus::ESME_RINVBCASTAREAFMT,
            BroadcastRefusal::AliasName => RefusalStatus::ESME_RINVBCASTALIAS_NAME,
            BroadcastRefusal::ContentType => RefusalStatus::ESME_RINVBCASTCNTTYPE,
            BroadcastRefusal::FrequencyInterval => RefusalStatus::ESME_RINVBCASTFREQINT,
            BroadcastRefusal::MessageClass => RefusalStatus::ESME_RINVBCASTMSGCLASS,
            BroadcastRefusal::ChannelIndicator => RefusalStatus::ESME_RINVBCASTCHANIND,
            BroadcastRefusal::NoLink => RefusalStatus::ESME_RBCASTFAIL,
            BroadcastRefusal::NothingToQuery => RefusalStatus::ESME_RBCASTQUERYFAIL,
            BroadcastRefusal::NothingToCancel => RefusalStatus::ESME_RBCASTCANCELFAIL,
        }
    }
}

/// What a proposal without outcome means for the ESME that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproposed {
    /// Nothing happened: the ESME may try again here.
    Overloaded,
    /// It may have happened or not, or cannot happen here: no answer may be given, and the connection is closed.
    Unknown,
}

impl From<&ProposeError> for Unproposed {
    fn from(error: &ProposeError) -> Self {
        match error {
            ProposeError::Overloaded => Unproposed::Overloaded,
            ProposeError::NotLeader { .. } | ProposeError::Unknown | ProposeError::Stopped(_) => Unproposed::Unknown,
        }
    }
}
