//! The parameters of a request.

use bytes::Bytes;

/// Names and values, in the order they were sent.
#[derive(Clone)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn read(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The value of a parameter; of one that is there twice, the first value, as AWS takes it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first of those names that a parameter has, or that a list or structure of parameters has.
    pub(crate) fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let is = |sent: &str, name: &str| {
            sent.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut names = names.iter();
        names
            .find(|name| self.0.iter().any(|(sent, _)| is(sent, name)))
            .copied()
    }
}
