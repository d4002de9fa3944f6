//! What is known of the way in which a store lists.

use parking_lot::Mutex;

use super::request::Form;
use super::spelling::Spelling;
use crate::aws::is_aws;
use crate::store::s3::Endpoint;

/// What is known of the way in which a store lists, for all mounts and sessions of a bucket.
#[derive(Debug)]
pub(crate) struct Dialect {
    learned: Mutex<Learned>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    pub(super) form: Form,
    /// The form has worked: a refusal is none of it.
    pub(super) is_proven: bool,
    keys: Spelling,
    prefixes: Spelling,
}

/// Where a name stands; stores may spell one and not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Key,
    CommonPrefix,
}

impl Dialect {
    /// Of a store that is reached like this: AWS is known, others are found out about.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let is_known = endpoint.aws.endpoints.urls.s3.as_deref().is_none_or(is_aws);
        let spelling = match is_known {
            true => Spelling::AWS,
            false => Spelling::default(),
        };
        Self {
            learned: Mutex::new(Learned {
                form: Form::MODERN,
                is_proven: is_known,
                keys: spelling,
                prefixes: spelling,
            }),
        }
    }

    pub(super) fn now(&self) -> Learned {
        *self.learned.lock()
    }

    pub(super) fn spelling(&self, field: Field) -> Spelling {
        let learned = self.now();
        match field {
            Field::Key => learned.keys,
            Field::CommonPrefix => learned.prefixes,
        }
    }

    pub(super) fn learn(&self, field: Field, text: &[u8], reading: Spelling) {
        let mut learned = self.learned.lock();
        match field {
            Field::Key => learned.keys.learn(text, reading),
            Field::CommonPrefix => learned.prefixes.learn(text, reading),
        }
    }

    pub(super) fn settle(&self, form: Form) {
        let mut learned = self.learned.lock();
        learned.form = form;
        learned.is_proven = true;
    }
}
