pub mod receipt;
pub mod text;
pub mod time;
