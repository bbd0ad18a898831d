//! The lists of submit_multi and its answer (SMPP v3.4 sections 4.5.1 and 4.5.2).

use crate::codec::{Field, Reader, Writer};
use crate::error::{EncodeError, FieldError, Problem};
use crate::status::CommandStatus;
use crate::types::macros::c_octet_string;
use crate::types::{Addr, Address, Npi, Ton};

c_octet_string! {
    /// The name of a distribution list, at most 20 octets (SMPP v3.4 section 5.2.27).
    DlName, "dl_name", 20, shown
}

/// One destination of submit_multi: dest_flag and what it announces (SMPP v3.4 section 5.2.25).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DestAddress {
    /// dest_flag 1: one SME.
    Sme(Address),
    /// dest_flag 2: a list kept by the message centre.
    DistributionList(DlName),
}

const DEST_FLAG_SME: u8 = 1;
const DEST_FLAG_DISTRIBUTION_LIST: u8 = 2;

impl Field for DestAddress {
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        match reader.u8("dest_flag")? {
            DEST_FLAG_SME => Address::read(reader, name).map(DestAddress::Sme),
            DEST_FLAG_DISTRIBUTION_LIST => DlName::read(reader, "dl_name").map(DestAddress::DistributionList),
            value => Err(FieldError::new("dest_flag", Problem::DestFlag { value })),
        }
    }

    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        match self {
            DestAddress::Sme(address) => {
                writer.u8(DEST_FLAG_SME);
                address.write(writer, name)
            }
            DestAddress::DistributionList(list) => {
                writer.u8(DEST_FLAG_DISTRIBUTION_LIST);
                list.write(writer, name)
            }
        }
    }
}

/// number_of_dests and the destinations.
impl Field for Vec<DestAddress> {
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        let count = reader.u8("number_of_dests")?;
        // The count is one octet, so a lie about it reserves little.
        let mut list = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            list.push(DestAddress::read(reader, name)?);
        }
        Ok(list)
    }

    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        writer.count("number_of_dests", self.len())?;
        self.iter().try_for_each(|entry| entry.write(writer, name))
    }
}

/// A destination of submit_multi that was refused (SMPP v3.4 section 4.5.2.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct UnsuccessSme {
    /// Type of number.
    pub dest_addr_ton: Ton,
    /// Numbering plan.
    pub dest_addr_npi: Npi,
    /// The address.
    pub destination_addr: Addr,
    /// Why.
    pub error_status_code: CommandStatus,
}

impl Field for UnsuccessSme {
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        Ok(UnsuccessSme {
            dest_addr_ton: Field::read(reader, name)?,
            dest_addr_npi: Field::read(reader, name)?,
            destination_addr: Field::read(reader, "destination_addr")?,
            error_status_code: CommandStatus(reader.u32("error_status_code")?),
        })
    }

    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        self.dest_addr_ton.write(writer, name)?;
        self.dest_addr_npi.write(writer, name)?;
        self.destination_addr.write(writer, name)?;
        writer.u32(self.error_status_code.0);
        Ok(())
    }
}

/// no_unsuccess and the destinations that failed.
impl Field for Vec<UnsuccessSme> {
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        let count = reader.u8("no_unsuccess")?;
        let mut list = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            list.push(UnsuccessSme::read(reader, name)?);
        }
        Ok(list)
    }

    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        writer.count("no_unsuccess", self.len())?;
        self.iter().try_for_each(|entry| entry.write(writer, name))
    }
}

#[cfg(any(test, feature = "testing"))]
mod sample {
    use super::*;
    use crate::arbitrary::{Sample, Source};

    impl Sample for DestAddress {
        fn sample(source: &mut Source<'_>) -> Self {
            if source.flag() {
                DestAddress::DistributionList(Sample::sample(source))
            } else {
                DestAddress::Sme(Sample::sample(source))
            }
        }
    }

    impl Sample for UnsuccessSme {
        fn sample(source: &mut Source<'_>) -> Self {
            UnsuccessSme {
                dest_addr_ton: Sample::sample(source),
                dest_addr_npi: Sample::sample(source),
                destination_addr: Sample::sample(source),
                error_status_code: CommandStatus(source.u32()),
            }
        }
    }

    impl Sample for Vec<DestAddress> {
        fn sample(source: &mut Source<'_>) -> Self {
            source.list(Sample::sample)
        }
    }

    impl Sample for Vec<UnsuccessSme> {
        fn sample(source: &mut Source<'_>) -> Self {
            source.list(Sample::sample)
        }
    }
}
