//! Pins: what is kept until someone lets it go.

use hubless_types::{Pin, RepoId, Revision};

use super::codec::Record;
use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, codec, keys};
use crate::error::Result;

impl Record for Pin {
    const NAME: &'static str = "pin";
}

impl Catalogue {
    /// Stores a pin; an older one of the same name makes room.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_pin(&self, pin: &Pin) -> Result<()> {
        self.change(|txn| put(txn, pin))
    }

    /// Lets a pin go; `false` if there was none.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn remove_pin(&self, repo: &RepoId, revision: &Revision) -> Result<bool> {
        self.change(|txn| {
            let key = key(repo, revision);
            let known = txn.has(Cf::Pins, &key)?;
            txn.delete(Cf::Pins, key);
            Ok(known)
        })
    }

    /// One pin.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn pin(&self, repo: &RepoId, revision: &Revision) -> Result<Option<Pin>> {
        self.db().get(Cf::Pins, &key(repo, revision))
    }

    /// Every pin, sorted by repository and name. People set pins, so they are few enough to be listed whole.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn pins(&self) -> Result<Vec<Pin>> {
        self.db().page(Cf::Pins, &[], None, usize::MAX, |_, value| codec::decode(value))
    }
}

fn key(repo: &RepoId, revision: &Revision) -> Vec<u8> {
    keys::repo_and(repo, revision.as_str().as_bytes())
}

pub(super) fn put(txn: &mut Txn<'_>, pin: &Pin) -> Result<()> {
    txn.put(Cf::Pins, key(&pin.repo, &pin.revision), pin)
}
