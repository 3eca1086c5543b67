//! Records: a version byte, then postcard.
//!
//! **Invariant:** a record type's fields and variants never change without a new [`Record::VERSION`] and a way
//! up from the old one in [`Record::upgrade`]; postcard tells fields and variants by their place alone.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Result, StoreError};

/// What is kept under one key.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// What errors call it.
    const NAME: &'static str;
    /// The version that is written.
    const VERSION: u8 = 1;

    /// Reads the body of an older version; `None` if it is not one.
    fn upgrade(_version: u8, _body: &[u8]) -> Option<Self> {
        None
    }
}

pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>> {
    postcard::to_extend(record, vec![R::VERSION]).map_err(|e| StoreError::corrupt(R::NAME, e))
}

pub(crate) fn decode<R: Record>(bytes: &[u8]) -> Result<R> {
    let fail = |why: &dyn std::fmt::Display| StoreError::corrupt(R::NAME, why);
    let (&version, body) = bytes.split_first().ok_or_else(|| fail(&"it is empty"))?;
    if version != R::VERSION {
        return R::upgrade(version, body).ok_or_else(|| fail(&format!("it has version {version}")));
    }
    parse(body).map_err(|e| fail(&e))
}

/// Reads a whole postcard body; bytes left over are an error.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, postcard::Error> {
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::SerdeDeCustom),
    }
}

/// Counters and due times.
impl Record for u64 {
    const NAME: &'static str = "number";
}

/// Rows that say all they have to say by their key.
impl Record for () {
    const NAME: &'static str = "mark";
}
