//! What every string parameter and every code parameter has in common.

/// A C-Octet String parameter: a newtype over `Bytes` that knows its name and its maximum length.
macro_rules! c_octet_string {
    ($(#[$doc:meta])* $name:ident, $field:literal, $octets_max:literal, $show:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(bytes::Bytes);

        impl $name {
            /// The most octets it may have, without the NUL that ends it on the wire.
            pub const OCTETS_MAX: usize = $octets_max;

            /// Checks the length and that there is no NUL inside.
            ///
            /// # Errors
            /// [`ValueError`](crate::error::ValueError), which names the parameter.
            pub fn new(octets: impl Into<bytes::Bytes>) -> Result<Self, crate::error::ValueError> {
                let octets = octets.into();
                crate::types::macros::check_c_octets($field, &octets, Self::OCTETS_MAX)?;
                Ok($name(octets))
            }

            /// The octets without the NUL.
            #[inline]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The octets as text, if they are UTF-8 (ASCII in anything that follows the specification).
            #[inline]
            pub fn as_str(&self) -> Option<&str> {
                std::str::from_utf8(&self.0).ok()
            }

            /// Whether it is the empty string, which stands for "not given".
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// The octets, without the buffer of the connection they came from.
            ///
            /// A decoded value keeps the whole receive buffer alive; what is stored for long is detached first.
            pub fn detached(&self) -> Self {
                $name(bytes::Bytes::copy_from_slice(&self.0))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<$name> for bytes::Bytes {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                crate::types::macros::check_c_octets($field, text.as_bytes(), Self::OCTETS_MAX)?;
                Ok($name(bytes::Bytes::copy_from_slice(text.as_bytes())))
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        crate::types::macros::c_octet_string_shown!($show, $name);

        impl crate::codec::Field for $name {
            #[inline]
            fn read(
                reader: &mut crate::codec::Reader<'_>,
                name: &'static str,
            ) -> Result<Self, crate::error::FieldError> {
                reader.c_octets(name, Self::OCTETS_MAX).map($name)
            }

            #[inline]
            fn write(
                &self,
                writer: &mut crate::codec::Writer<'_>,
                _name: &'static str,
            ) -> Result<(), crate::error::EncodeError> {
                writer.c_octets(&self.0);
                Ok(())
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for $name {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                $name(source.c_octets(Self::OCTETS_MAX))
            }
        }
    };
}

/// Debug and Display of a string parameter: as text with escapes, or not at all if it is a secret.
macro_rules! c_octet_string_shown {
    (shown, $name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.escape_ascii().fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    };
    (secret, $name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(if self.is_empty() { "(empty)" } else { "(hidden)" })
            }
        }
    };
}

/// A parameter of one octet: a newtype with named values, whose Debug prints the name.
macro_rules! octet_code {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $constant:ident = $value:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$value_doc])* pub const $constant: $name = $name($value);)*

            /// The name of this value, if the specification defines it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#04x})"), self.0),
                }
            }
        }

        crate::types::macros::octet_field!($name);
    };
}

/// How a newtype over one octet stands on the wire.
macro_rules! octet_field {
    ($name:ident) => {
        impl From<u8> for $name {
            fn from(octet: u8) -> Self {
                $name(octet)
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> u8 {
                value.0
            }
        }

        impl crate::codec::Field for $name {
            #[inline]
            fn read(
                reader: &mut crate::codec::Reader<'_>,
                name: &'static str,
            ) -> Result<Self, crate::error::FieldError> {
                reader.u8(name).map($name)
            }

            #[inline]
            fn write(
                &self,
                writer: &mut crate::codec::Writer<'_>,
                _name: &'static str,
            ) -> Result<(), crate::error::EncodeError> {
                writer.u8(self.0);
                Ok(())
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for $name {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                $name(source.u8())
            }
        }
    };
}

pub(crate) use {c_octet_string, c_octet_string_shown, octet_code, octet_field};

use crate::error::ValueError;

/// The two rules of a C-Octet String: not too long, no NUL inside.
pub(crate) fn check_c_octets(field: &'static str, octets: &[u8], octets_max: usize) -> Result<(), ValueError> {
    if octets.len() > octets_max {
        return Err(ValueError::TooLong { field, length: octets.len(), octets_max });
    }
    match octets.iter().position(|octet| *octet == 0) {
        Some(position) => Err(ValueError::Nul { field, position }),
        None => Ok(()),
    }
}
