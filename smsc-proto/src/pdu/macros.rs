//! A body is its parameters in the order of the wire: declared once, read, written and sampled from that.

/// A struct whose fields are the parameters of a body, in wire order.
macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl crate::codec::Field for $name {
            #[inline]
            fn read(
                reader: &mut crate::codec::Reader<'_>,
                _name: &'static str,
            ) -> Result<Self, crate::error::FieldError> {
                Ok($name { $($field: crate::codec::Field::read(reader, stringify!($field))?,)* })
            }

            #[inline]
            fn write(
                &self,
                writer: &mut crate::codec::Writer<'_>,
                _name: &'static str,
            ) -> Result<(), crate::error::EncodeError> {
                $(self.$field.write(writer, stringify!($field))?;)*
                Ok(())
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for $name {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                $name { $($field: crate::arbitrary::Sample::sample(source),)* }
            }
        }
    };
}

/// The body of an answer: absent as a whole when the request was refused (SMPP v3.4 section 4), else one parameter,
/// or a group of them, and TLVs.
macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $(#[$field_doc:meta])* $field:ident: $type:ty, }) => {
        $(#[$doc])*
        ///
        /// A body that is absent on the wire is `None` without TLVs, whatever command_status says; one that is present
        /// beside an error is kept. TLVs beside `None` are written behind an empty value, because on the wire nothing
        /// can stand behind what is absent.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $(#[$field_doc])*
            pub $field: Option<$type>,
            /// Optional parameters.
            pub tlvs: crate::tlv::Tlvs,
        }

        impl crate::codec::Field for $name {
            #[inline]
            fn read(
                reader: &mut crate::codec::Reader<'_>,
                _name: &'static str,
            ) -> Result<Self, crate::error::FieldError> {
                if reader.remaining() == 0 {
                    return Ok($name::default());
                }
                Ok($name {
                    $field: Some(crate::codec::Field::read(reader, stringify!($field))?),
                    tlvs: crate::codec::Field::read(reader, "tlvs")?,
                })
            }

            #[inline]
            fn write(
                &self,
                writer: &mut crate::codec::Writer<'_>,
                _name: &'static str,
            ) -> Result<(), crate::error::EncodeError> {
                match &self.$field {
                    Some(value) => value.write(writer, stringify!($field))?,
                    None if self.tlvs.is_empty() => return Ok(()),
                    None => <$type>::default().write(writer, stringify!($field))?,
                }
                self.tlvs.write(writer, "tlvs")
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for $name {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                if source.flag() {
                    $name {
                        $field: Some(crate::arbitrary::Sample::sample(source)),
                        tlvs: crate::arbitrary::Sample::sample(source),
                    }
                } else {
                    $name::default()
                }
            }
        }
    };
}

pub(crate) use {answer, parameters};
