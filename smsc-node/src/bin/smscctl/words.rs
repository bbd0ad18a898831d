//! The words for choices of an account or a link, on the command line, in JSON and in files.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use smsc_raft::model::{DefaultAlphabet, DeliverOperation, ReceiptContent};

/// A choice, its words, and what they stand for in the records; the first is the default.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident for $record:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[value(name = $text)] #[serde(rename = $text)] $word,)*
        }

        impl From<i32> for $name {
            /// A value that this version does not know is shown as the default.
            fn from(value: i32) -> Self {
                match $record::try_from(value) {
                    $(Ok($record::$word) => $name::$word,)*
                    Err(_) => $name::default(),
                }
            }
        }

        impl From<$name> for i32 {
            fn from(name: $name) -> i32 {
                match name { $($name::$word => $record::$word as i32,)* }
            }
        }
    };
}

words! {
    /// What data_coding 0 means in messages from and to the account or the link.
    AlphabetWord for DefaultAlphabet {
        /// GSM 7-bit default alphabet, a septet per octet.
        #[default] Gsm7 = "gsm7",
        /// ISO 8859-1.
        Latin1 = "latin1",
        /// IA5.
        Ascii = "ascii",
    }
}

words! {
    /// What a receipt consists of.
    ContentWord for ReceiptContent {
        /// The conventional text, and the TLVs receipted_message_id, message_state and network_error_code.
        #[default] TextAndTlvs = "both",
        /// The text alone.
        Text = "text",
        /// The TLVs alone, except to version 3.3, which has none.
        Tlvs = "tlvs",
    }
}

words! {
    /// The operation that carries messages to the account's ESME.
    OperationWord for DeliverOperation {
        /// deliver_sm.
        #[default] DeliverSm = "deliver_sm",
        /// data_sm; deliver_sm to version 3.3, which has none.
        DataSm = "data_sm",
    }
}
