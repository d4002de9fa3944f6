//! AWS's Query protocol: a form comes in, and XML goes out.

use bytes::Bytes;

use crate::random::Random;

/// The parameters of a request.
pub(crate) struct Form(pub(crate) Vec<(String, String)>);

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

    /// The first parameter of one of those names, or of a list or structure of one of those names.
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

/// The answer to a request that succeeds. `result` is XML.
pub(crate) fn response(namespace: &str, action: &str, result: &str, random: &Random) -> String {
    let request_id = random.uuid();
    format!(
        "<{action}Response xmlns=\"{namespace}\">\n  <{action}Result>{result}</{action}Result>\n  \
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\n</{action}Response>\n"
    )
}
