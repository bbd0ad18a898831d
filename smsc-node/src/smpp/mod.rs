//! The SMPP server: ESMEs bind here, submit, and are delivered to.
//!
//! Pure, without tasks or IO:
//! - [`account`]: system_id, password, mode and origin to an account or a refusal
//! - [`serves`]: which numbers a receiver serves, as its address_range says
//! - [`proxy`]: the header by which a proxy tells whom it speaks for
//! - [`submit`]: a submission as it came to one as it is stored, or a refusal; [`multi`]: several of them at once
//! - [`broadcast`]: what is wrong with a cell broadcast
//! - [`alphabet`]: what data_coding 0 means to an account
//! - [`deliver`]: a stored message to the deliver_sm or data_sm that carries it
//! - [`query`]: query_sm, cancel_sm and replace_sm against what is stored
//! - [`rate`]: how many submissions an account may make
//! - [`status`]: which command_status each refusal earns
//!
//! With IO: [`listener`] accepts connections while this node leads, [`connection`] runs one session each, [`outbind`]
//! calls ESMEs that have messages waiting, [`tls`] keeps the certificates. What they need of the rest of the node is in
//! [`ports`].

pub mod account;
pub mod alphabet;
pub mod broadcast;
pub mod connection;
pub mod deliver;
pub mod listener;
pub mod multi;
pub mod outbind;
pub mod ports;
pub mod proxy;
pub mod query;
pub mod rate;
pub mod serves;
pub mod status;
pub mod submit;
pub mod tls;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;
