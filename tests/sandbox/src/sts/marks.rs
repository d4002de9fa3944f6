//! What a session of a role is marked with: tags, and an identity that stays with it.
//! IAM user guide, "Pass session tags in AWS STS" and "Monitor and control actions taken with assumed
//! roles".

use super::parameters::SOURCE_IDENTITY;
use crate::policy::condition::Context;
use crate::query::Form;
use crate::query::constraints::{Examination, invalid};
use crate::refusal::Refusal;

/// The most tags of a session: AWS STS API reference.
const MOST_TAGS: usize = 50;

/// The marks of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) source_identity: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    /// The keys of those that stay when another role is assumed with the session.
    pub(crate) transitive: Vec<String>,
}

impl Marks {
    /// Reads what is asked for.
    pub(super) fn read(form: &Form, examination: &mut Examination<'_>) -> Result<Self, Refusal> {
        let mut marks = Self {
            source_identity: examination.optional(&SOURCE_IDENTITY).map(str::to_owned),
            ..Self::default()
        };
        for number in 1..=MOST_TAGS + 1 {
            let member = |name: &str| form.get(&format!("Tags.member.{number}.{name}"));
            let Some(key) = member("Key") else { break };
            let value = member("Value").unwrap_or_default();
            let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
            if number > MOST_TAGS || !fits {
                return Err(invalid("The session tags are invalid"));
            }
            marks.tags.push((key.to_owned(), value.to_owned()));
        }
        for number in 1..=MOST_TAGS {
            let Some(key) = form.get(&format!("TransitiveTagKeys.member.{number}")) else {
                break;
            };
            if !marks.tags.iter().any(|(known, _)| known == key) {
                return Err(invalid(
                    "The transitive tag keys are not among the session tags",
                ));
            }
            marks.transitive.push(key.to_owned());
        }
        Ok(marks)
    }

    /// What has to be allowed besides assuming the role.
    pub(super) fn actions(&self) -> impl Iterator<Item = &'static str> {
        let tags = (!self.tags.is_empty()).then_some("sts:TagSession");
        let identity = self
            .source_identity
            .as_ref()
            .map(|_| "sts:SetSourceIdentity");
        tags.into_iter().chain(identity)
    }

    /// What policies can ask about the request.
    pub(super) fn describe_request(&self, context: &mut Context) {
        for (key, value) in &self.tags {
            context.set(&format!("aws:RequestTag/{key}"), value.clone());
        }
        if let Some(identity) = &self.source_identity {
            context.set("sts:SourceIdentity", identity);
        }
    }

    /// What policies can ask about who acts in the session.
    pub(crate) fn describe_principal(&self, context: &mut Context) {
        for (key, value) in &self.tags {
            context.set(&format!("aws:PrincipalTag/{key}"), value.clone());
        }
        if let Some(identity) = &self.source_identity {
            context.set("aws:SourceIdentity", identity);
        }
    }

    /// The marks of a session that is got with one that has these: an identity stays, and so do
    /// transitive tags.
    pub(super) fn passed_on(&self, asked: Self) -> Self {
        let mut marks = asked;
        marks.source_identity = self.source_identity.clone().or(marks.source_identity);
        for key in &self.transitive {
            let kept = self.tags.iter().find(|(known, _)| known == key);
            if let Some(kept) = kept {
                marks.tags.retain(|(known, _)| known != key);
                marks.tags.push(kept.clone());
                marks.transitive.push(key.clone());
            }
        }
        marks
    }
}
